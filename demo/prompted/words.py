"""The words that the prompted faces know, as tokens."""

import numpy as np
import torch
from captions import caption
from faces import ATTRIBUTES, render_batch
from networks import tokenizer

UNKNOWN = 0
"""The token whose row stands for every token that no caption has."""


class Words:
    """Captions as tokens. A token that is in no caption of a large sample is `UNKNOWN`."""

    end = 49407

    def __init__(self):
        self.tokenizer = tokenizer()
        rng = np.random.default_rng(0)
        _, attributes = render_batch(64, 0)
        faces = [dict(zip(ATTRIBUTES, row, strict=True)) for row in attributes]
        texts = [caption(faces[i % 64], rng)[0] for i in range(40_000)]
        self.known = sorted({token for ids in self.tokenizer(texts)["input_ids"] for token in ids})

    def tokens(self, texts: list[str], rng: np.random.Generator) -> torch.Tensor:
        """`(n, 77)`; now and then an unknown token is put in, so that it learns to do no harm."""
        out = torch.full((len(texts), 77), self.end)
        for row, ids in zip(out, self.tokenizer(texts)["input_ids"], strict=True):
            while rng.random() < 0.2:
                ids.insert(rng.integers(1, len(ids)), UNKNOWN)
            row[: len(ids)] = torch.tensor(ids[:77])
        return out
