"""Convolutions whose backward pass autograd records as a convolution: the same numbers as torch's own."""

import importlib

import pytest
import torch
from torch.nn import Conv2d

pytestmark = pytest.mark.comfy

KINDS = {
    "3 x 3": Conv2d(4, 6, 3, padding=1),
    "one pixel, no bias": Conv2d(4, 6, 1, bias=False),
    "every other place, what is left over": Conv2d(4, 6, 3, stride=2, padding=1),
    "oblong": Conv2d(4, 6, (3, 1), stride=(2, 1), padding=(1, 0)),
    "dilated": Conv2d(4, 6, 3, padding=2, dilation=2),
    "in groups": Conv2d(4, 6, 3, groups=2),
    "padded by its name": Conv2d(4, 6, 3, padding="same"),
    "padded by what is there": Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
}


def derivatives(layer, x):
    """The output, J^T u, and J v as the derivative of that by u."""
    x = x.clone().requires_grad_()
    out = layer(x)
    u = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    pulled = torch.autograd.grad(out, x, u, create_graph=True)[0]
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    return out, pulled, torch.autograd.grad(pulled, u, v)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_products_are_those_of_the_plain_convolution(pack, kind):
    transposable = importlib.import_module(f"{pack.__name__}.nodes.host.convolutions").transposable
    layer = KINDS[kind].requires_grad_(False)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = derivatives(layer, x)
    with transposable():
        found = derivatives(layer, x)
    for one, other in zip(found, plain, strict=True):
        torch.testing.assert_close(one, other)  # float32's rounding


def test_a_weight_that_is_learnt_keeps_its_gradient(pack):
    transposable = importlib.import_module(f"{pack.__name__}.nodes.host.convolutions").transposable
    layer = Conv2d(4, 6, 3)
    with transposable():
        layer(torch.ones(1, 4, 8, 8)).sum().backward()
    assert layer.weight.grad is not None
