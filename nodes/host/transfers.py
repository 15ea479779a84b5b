"""What goes between the CPU and a card, and nothing waits for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def uploaded(tensor: Tensor, like) -> Tensor:
    """`tensor` of the CPU, on the device and in the dtype of another, or of a layout."""
    tensor = tensor.to(like.dtype)
    if like.device.type != "cuda":
        return tensor.to(like.device)
    pinned = tensor.pin_memory() if torch.cuda.is_available() else tensor
    return pinned.to(like.device, non_blocking=True)


@dataclass(frozen=True, eq=False)
class Readback:
    """Copies on the CPU of tensors of one device. Those of a card are on their way for a while, in pinned memory."""

    copies: tuple[Tensor, ...]
    event: torch.cuda.Event | None
    """When the card has come so far; None where the copies are there."""

    @classmethod
    def of(cls, tensors: Sequence[tuple[Tensor, torch.dtype]]) -> "Readback":
        """Of each a copy in its dtype."""
        device = tensors[0][0].device
        card = device.type == "cuda"
        copies = tuple(each.to("cpu", dtype, copy=True, non_blocking=card) for each, dtype in tensors)
        event = torch.cuda.Event() if card and torch.cuda.is_available() else None
        if event is not None:
            event.record(torch.cuda.current_stream(device))
        return cls(copies, event)

    @property
    def there(self) -> bool:
        return self.event is None or self.event.query()

    def wait(self) -> tuple[Tensor, ...]:
        """The copies, when they are there, in memory that isn't pinned: there is little of that."""
        if self.event is None:
            return self.copies
        self.event.synchronize()
        return tuple(each.clone() for each in self.copies)
