"""Find: directions in a bank, in one picture, or under an objective."""

from . import examples, jacobian, learn, learn_words, objective, pca, pick, prompts, scores, words

_FILES = pca, pick, scores, examples, words, prompts, jacobian, learn_words, objective, learn

NODES = [node for module in _FILES for node in module.NODES]
