"""Find: directions in a bank, in one picture, or under an objective."""

from . import examples, jacobian, learn, objective, pca, pick, prompts, scores, words

_FILES = pca, pick, scores, examples, words, prompts, jacobian, objective, learn

NODES = [node for module in _FILES for node in module.NODES]
