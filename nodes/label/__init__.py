"""Label: who says which pictures of a bank have it."""

from . import load_classifier, mark_examples, score_pictures

NODES = [node for module in (load_classifier, score_pictures, mark_examples) for node in module.NODES]
