"""The memory of graphs: what one keeps is counted, and work that is too large is done in parts."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import comfy.model_management
import torch
from comfy.model_management import OOM_EXCEPTION
from torch import Tensor

Result = TypeVar("Result")


class TooLarge(ValueError):
    """A graph has no room."""

    def __init__(self, needs: str):
        super().__init__(
            f"The decoder's graph does not fit into memory: {needs}. Use smaller pictures, fewer at once, or free the "
            "memory of other models."
        )


class GraphBudget:
    """Counts what a graph keeps beside the weights, and keeps no more than the device has."""

    def __init__(self, device: torch.device):
        self.free = comfy.model_management.get_free_memory(device)
        self.seen: set[int] = set()
        """Where memory begins that is counted, or not to be."""
        self.bytes = 0

    @property
    def fits(self) -> bool:
        return self.bytes <= self.free

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Counts within. `TooLarge` where the device has no more."""
        token = _MEASURING.set(self)
        try:
            with out_of_memory_told(), torch.autograd.graph.saved_tensors_hooks(self._keep, _unchanged):
                yield
        finally:
            _MEASURING.reset(token)

    def require(self) -> None:
        if not self.fits:
            raise TooLarge(f"it needs over {self.bytes / 1e9:.1f} GB, {self.free / 1e9:.1f} GB are free")

    def _keep(self, tensor: Tensor) -> tuple[Tensor, int] | None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.seen:
            self.seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return (tensor.detach(), tensor._version) if self.fits else None


def _unchanged(kept: tuple[Tensor, int]) -> Tensor:
    """What a graph kept: torch looks whether it was changed in place, but not with hooks of ours."""
    tensor, version = kept
    if tensor._version != version:
        raise RuntimeError(f"What derivatives need was changed in place: {tuple(tensor.shape)} of {tensor.dtype}.")
    return tensor


_MEASURING: ContextVar[GraphBudget | None] = ContextVar("measuring", default=None)


def leave_out(weights: Iterable[Tensor]) -> None:
    """Tell the budget that counts just now that these are there with or without a graph."""
    budget = _MEASURING.get()
    if budget is not None:
        budget.seen.update(weight.untyped_storage().data_ptr() for weight in weights)


@contextmanager
def out_of_memory_told() -> Iterator[None]:
    """`TooLarge` for ComfyUI's own exception, whose traceback keeps what was there when it was raised."""
    try:
        yield
    except OOM_EXCEPTION as error:
        raise TooLarge("the device has no more") from error.with_traceback(None)


def in_parts(work: Callable[[slice], Result], count: int) -> list[Result]:
    """Results of `work` on all of `count` pictures, or on ever smaller parts of them until it fits.

    `TooLarge` where not even one does.
    """
    size = count
    while True:
        try:
            with out_of_memory_told():
                return [work(slice(first, min(first + size, count))) for first in range(0, count, size)]
        except TooLarge:
            if size == 1:
                raise
        size = -(-size // 2)
        comfy.model_management.soft_empty_cache()
