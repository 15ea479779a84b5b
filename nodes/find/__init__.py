"""Find: directions in a bank, in one picture, or under an objective."""

from . import examples, jacobian, learn, objective, pca, pick, prompts, scores

NODES = [node for module in (pca, pick, scores, examples, prompts, jacobian, objective, learn) for node in module.NODES]
