"""Weights as ComfyUI lends them to layers on a card that has not room for all: here on the CPU, where it never does.

In the three ways of `comfy.ops.cast_bias_weight`. Dynamic VRAM has weights that stay, in tensors made while sampling in
inference mode, and such as are read into a buffer that the next layer's are read into, in tensors made anew. In want of
memory without dynamic VRAM that buffer is a tensor of inference mode itself.
"""

from itertools import accumulate

import numpy as np
import torch
from torch.nn import functional

WAYS = "resident", "buffer", "stream"


class Lender:
    def __init__(self, way: str, largest: int):
        self.way, self.kept = way, {}
        self.memory = np.empty(largest, np.uint8)
        with torch.inference_mode():
            self.stream = torch.empty(largest, dtype=torch.uint8)

    def lend(self, layer, weights: list) -> list:
        """The same numbers elsewhere, until the next layer's are lent at most."""
        if self.way == "resident":
            with torch.inference_mode():
                return self.kept.setdefault(layer, [weight.clone() for weight in weights])
        ends = list(accumulate(weight.nbytes for weight in weights))
        memory = torch.from_numpy(self.memory) if self.way == "buffer" else self.stream
        lent = []
        for weight, end in zip(weights, ends, strict=True):
            lent.append(memory[end - weight.nbytes : end].view(weight.dtype).view(weight.shape))
            lent[-1].copy_(weight)
        return lent


class Lent:
    """A layer of `comfy.ops` whose weights are lent to it."""

    comfy_cast_weights = True
    lender: Lender

    def forward_comfy_cast_weights(self, x):
        lent = self.lender.lend(self, [each for each in (self.weight, self.bias) if each is not None])
        weight, bias, *_ = *(each.to(x.dtype) for each in lent), None, None
        if isinstance(self, torch.nn.Conv2d):
            return self._conv_forward(x, weight, bias)
        if isinstance(self, torch.nn.GroupNorm):
            return functional.group_norm(x, self.num_groups, weight, bias, self.eps)
        if isinstance(self, torch.nn.LayerNorm):
            return functional.layer_norm(x, self.normalized_shape, weight, bias, self.eps)
        if isinstance(self, torch.nn.RMSNorm):
            return functional.rms_norm(x, self.normalized_shape, weight, self.eps)
        return functional.linear(x, weight, bias)


KINDS = torch.nn.Conv2d, torch.nn.GroupNorm, torch.nn.LayerNorm, torch.nn.Linear, torch.nn.RMSNorm


def lend_weights(module: torch.nn.Module, way: str) -> None:
    """From now on its layers are lent their weights."""
    layers = [each for each in module.modules() if hasattr(each, "comfy_cast_weights") and isinstance(each, KINDS)]
    assert layers
    lender = Lender(way, max(sum(weight.nbytes for weight in layer.parameters()) for layer in layers))
    for layer in layers:
        layer.__class__ = type(f"Lent{type(layer).__name__}", (Lent, type(layer)), {"lender": lender})
