"""What derivatives through a model of ComfyUI need: grad mode, weights and attention that allow them."""

from collections.abc import Callable, Iterable
from contextlib import contextmanager

import torch
from comfy.ldm.modules.attention import attention_pytorch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from .graph_budget import leave_out


def differentiable_attention(_function, *args, **kwargs) -> Tensor:
    """In place of whatever attention is set: torch's own has both derivatives."""
    return attention_pytorch(*args, **kwargs)


def rotated(q: Tensor, k: Tensor, v: Tensor, pe: Tensor | None = None, **others) -> dict:
    """What Flux's blocks ask a patch of attention for: q and k `(b, heads, n, d)` with their positions, by operations
    that have derivatives, as ComfyUI's own kernel has none.
    """
    return {} if pe is None else {"q": _turned(q, pe), "k": _turned(k, pe), "pe": None}


def _turned(x: Tensor, pe: Tensor) -> Tensor:
    """Each pair of numbers by its matrix of `pe (b, 1, n, d / 2, 2, 2)`."""
    pairs = x.to(pe.dtype).reshape(*x.shape[:-1], -1, 1, 2)
    turned = torch.addcmul(pe[..., 0] * pairs[..., 0], pe[..., 1], pairs[..., 1])
    return turned.reshape(x.shape).type_as(x)


def autograd_alias(weight: Tensor) -> Tensor:
    """The same memory as a tensor that derivatives may pass: ComfyUI loads weights in inference mode."""
    if not weight.is_inference():
        return weight.detach()
    alias = torch.empty(0, dtype=weight.dtype, device=weight.device)
    return alias.set_(weight.untyped_storage(), weight.storage_offset(), weight.size(), weight.stride())


def with_autograd_weights(module: torch.nn.Module, device: torch.device) -> Callable:
    """`module`'s forward, which derivatives may pass, wherever its weights lie while it computes on `device`.

    Weights that lie there are used where they are. Others, ComfyUI brings there layer by layer, under dynamic VRAM and
    in want of memory: those are copied for as long as a graph needs them. Core's own way out, the patcher's non-dynamic
    delegate, has none for vision models and small VAEs, and where memory is short it brings its weights as well.
    """
    named = (*module.named_parameters(), *module.named_buffers())
    with torch.inference_mode(False):
        weights = {name: autograd_alias(weight) for name, weight in named if weight.device == device}

    def run(*args, **kwargs):
        leave_out(weights.values())
        with _Untouched(weights.values()):
            return torch.func.functional_call(module, weights, args, kwargs)

    return run


LAYERS = frozenset({
    functional.linear, functional.conv1d, functional.conv2d, functional.conv3d, functional.conv_transpose1d,
    functional.conv_transpose2d, functional.group_norm, functional.layer_norm, functional.rms_norm,
    functional.embedding,
})  # fmt: skip
"""What ComfyUI's layers (`comfy.ops`) call with weights that they were handed."""


class _Untouched(TorchFunctionMode):
    """Within it, graphs keep what stays as it is: weights of their own, not those in a buffer that the next layer's are
    read into, and an x of their own where CLIP adds to x in place what it makes of its normalisation.
    """

    def __init__(self, lying: Iterable[Tensor]):
        super().__init__()
        self.lying = frozenset(map(id, lying))
        """Weights that stay as they are."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in LAYERS:
            args = args[0], *map(self._own, args[1:])
            kwargs = {name: self._own(value) for name, value in kwargs.items()}
        if function is functional.layer_norm:
            args = args[0].clone(), *args[1:]
        return function(*args, **kwargs)

    def _own(self, value):
        return value if not isinstance(value, Tensor) or id(value) in self.lying else value.clone()


@contextmanager
def derivatives():
    with torch.inference_mode(False), torch.enable_grad():
        yield


NORMS = frozenset({functional.group_norm, functional.layer_norm, functional.rms_norm})


class wide_norms(TorchFunctionMode):  # noqa: N801, a context as torch's own are
    """Within it normalisation of half precision is done in float32.

    Derivatives of its derivative have the cube of one over the standard deviation, which float16 can't hold where that
    is under .025. Their own first derivative torch's kernels work out in float32.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function not in NORMS or args[0].dtype not in (torch.float16, torch.bfloat16):
            return function(*args, **kwargs)
        wide = lambda value: value.float() if isinstance(value, Tensor) else value  # noqa: E731
        return function(*map(wide, args), **{name: wide(value) for name, value in kwargs.items()}).to(args[0].dtype)


def math_attention():
    """The fused kernels have neither a forward derivative nor a second one."""
    return sdpa_kernel(SDPBackend.MATH)
