"""Convolutions whose backward pass is one that autograd records as a convolution.

Of its own backward pass autograd knows a second derivative that always works out the weight's as well, and throws it
away: half of the time of J v.
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d
from torch.overrides import TorchFunctionMode

Sides = int | tuple[int, int]


class transposable(TorchFunctionMode):  # noqa: N801, a context as torch's own are
    """Within it convolutions by weights that stay as they are have a backward pass of that kind."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        return _convolved(*args, **kwargs) if func is conv2d else func(*args, **kwargs)


def _convolved(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Sides = 1, padding: Sides | str = 0,
    dilation: Sides = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    if isinstance(padding, str) or weight.requires_grad:
        return conv2d(input, weight, bias, stride, padding, dilation, groups)
    sides = (tuple(each) if isinstance(each, (tuple, list)) else (each, each) for each in (stride, padding, dilation))
    convolved: Tensor = _Convolution.apply(input, weight, bias, *sides, groups)
    return convolved


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding, dilation, groups):
        ctx.save_for_backward(weight)
        ctx.settings, ctx.size = (stride, padding, dilation, groups), x.shape[-2:]
        return conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx, gradient):
        (weight,), (stride, padding, dilation, groups) = ctx.saved_tensors, ctx.settings
        axes = zip(ctx.size, gradient.shape[-2:], weight.shape[-2:], stride, padding, dilation, strict=True)
        left = [size - (n - 1) * s + 2 * p - d * (kernel - 1) - 1 for size, n, kernel, s, p, d in axes]
        pulled = conv_transpose2d(gradient, weight, None, stride, padding, left, groups, dilation)
        return pulled, None, None, None, None, None, None
