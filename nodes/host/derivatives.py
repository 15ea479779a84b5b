"""What derivatives through a model of ComfyUI need: grad mode, weights, attention and memory that allow them."""

from collections.abc import Callable
from contextlib import contextmanager

import comfy.model_management
import torch
from comfy.ldm.modules.attention import attention_pytorch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


def differentiable_attention(_function, *args, **kwargs) -> Tensor:
    """In place of whatever attention is set: torch's own has both derivatives."""
    return attention_pytorch(*args, **kwargs)


def autograd_alias(weight: Tensor) -> Tensor:
    """The same memory as a tensor that derivatives may pass: ComfyUI loads weights in inference mode."""
    if not weight.is_inference():
        return weight.detach()
    alias = torch.empty(0, dtype=weight.dtype, device=weight.device)
    return alias.set_(weight.untyped_storage(), weight.storage_offset(), weight.size(), weight.stride())


def with_autograd_weights(module: torch.nn.Module) -> Callable:
    """`module`'s forward, which derivatives may pass."""
    weights = {name: autograd_alias(weight) for name, weight in (*module.named_parameters(), *module.named_buffers())}
    return lambda *args, **kwargs: torch.func.functional_call(module, weights, args, kwargs)


@contextmanager
def derivatives():
    with torch.inference_mode(False), torch.enable_grad():
        yield


def math_attention():
    """The fused kernels have neither a forward derivative nor a second one."""
    return sdpa_kernel(SDPBackend.MATH)


class GraphBudget:
    """Counts what a graph keeps, and keeps no more than the device has."""

    def __init__(self, device: torch.device):
        self.free = comfy.model_management.get_free_memory(device)
        self.kept: set[int] = set()
        self.bytes = 0

    @property
    def fits(self) -> bool:
        return self.bytes <= self.free

    @contextmanager
    def measured(self):
        with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor):
            yield

    def require(self) -> None:
        if not self.fits:
            raise ValueError(
                f"The decoder's graph does not fit into memory: it needs over {self.bytes / 1e9:.1f} GB, "
                f"{self.free / 1e9:.1f} GB are free. Use smaller pictures, fewer at once, or free the memory of "
                "other models."
            )

    def _keep(self, tensor: Tensor) -> Tensor | None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.kept:
            self.kept.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor.detach() if self.fits else None
