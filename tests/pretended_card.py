"""A card that isn't there: tensors that claim to be on it, and a count of what a program makes it wait for.

Operations on such tensors give tensors of the right size, dtype and device without numbers, by torch's FakeTensorMode,
which refuses to mix devices. Those of the CPU are computed as ever.
"""

from collections.abc import Iterator

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READ, COMPARE = torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default
COPY = torch.ops.aten._to_copy.default
COPIES = COPY, torch.ops.aten.copy_.default


class PretendedCard(TorchDispatchMode):
    """Within it, device "cuda" works as far as sizes go. Counts numbers read back, and copies to it and from it.

    What is asked of a number that isn't known is the `answer`, on the card and of what was copied from it, or the next
    of several. What was copied to it comes back as it was.
    """

    def __init__(self, answer: float | Iterator[float] = 1.0):
        super().__init__()
        self.answer = answer
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.known: dict[torch.Tensor, torch.Tensor] = {}
        """What was copied to the card, by what is there."""
        self.clear()

    def __enter__(self):
        self.fake.__enter__()  # below it: where this mode lets it, it makes the tensors
        return super().__enter__()

    def __exit__(self, *raised):
        super().__exit__(*raised)
        self.fake.__exit__(*raised)

    def clear(self) -> None:
        self.reads = self.uploads = self.downloads = 0
        self.waits = 0
        """Reads, and copies either way that block."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        if not any(_on_card(each) for each in leaves):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        devices = [each.device.type for each in leaves if isinstance(each, torch.Tensor)]
        if func in (READ, COMPARE):
            self.reads += "cuda" in devices
            self.waits += "cuda" in devices
            answer = next(self.answer) if isinstance(self.answer, Iterator) else self.answer
            return bool(answer) if func is COMPARE else answer
        result = func(*args, **kwargs)
        if func in COPIES:
            up = result.device.type == "cuda" and "cpu" in devices
            down = result.device.type == "cpu" and "cuda" in devices
            self.uploads += up
            self.downloads += down
            self.waits += (up or down) and not _is_non_blocking(func, args, kwargs)
            if up and func is COPY and not isinstance(args[0], FakeTensor):
                self.known[result] = args[0]
            if down and func is COPY and args[0] in self.known:
                with unset_fake_temporarily():
                    return self.known[args[0]].to(result.dtype)
        return result


def _is_non_blocking(func, args, kwargs) -> bool:
    return kwargs.get("non_blocking", False) if func is COPY else args[2:] == (True,)


def _on_card(value) -> bool:
    if isinstance(value, torch.device):
        return value.type == "cuda"
    return isinstance(value, FakeTensor)
