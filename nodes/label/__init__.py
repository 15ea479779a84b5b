"""Label: who says which pictures of a bank have it."""

from . import load_classifier, mark_examples, score_pictures, score_text

NODES = [node for module in (load_classifier, score_pictures, score_text, mark_examples) for node in module.NODES]
