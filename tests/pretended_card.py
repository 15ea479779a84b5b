"""A card that isn't there: tensors that claim to be on it, and a count of what a program makes it wait for.

Operations on such tensors give tensors of the right size, dtype and device without numbers, by torch's FakeTensorMode,
which refuses to mix devices. Those of the CPU are computed as ever.
"""

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READ = torch.ops.aten._local_scalar_dense.default
COPIES = torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default


class PretendedCard(TorchDispatchMode):
    """Within it, device "cuda" works as far as sizes go. Counts numbers read back, and copies to it and from it."""

    def __init__(self, answer: float = 1.0):
        super().__init__()
        self.answer = answer
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.clear()

    def __enter__(self):
        self.fake.__enter__()  # below it: where this mode lets it, it makes the tensors
        return super().__enter__()

    def __exit__(self, *raised):
        super().__exit__(*raised)
        self.fake.__exit__(*raised)

    def clear(self) -> None:
        self.reads = self.uploads = self.downloads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        if not any(_on_card(each) for each in leaves):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if func is READ:
            self.reads += 1
            return self.answer
        result = func(*args, **kwargs)
        if func in COPIES:
            devices = [each.device.type for each in leaves if isinstance(each, torch.Tensor)]
            self.uploads += result.device.type == "cuda" and "cpu" in devices
            self.downloads += result.device.type == "cpu" and "cuda" in devices
        return result


def _on_card(value) -> bool:
    if isinstance(value, torch.device):
        return value.type == "cuda"
    return isinstance(value, FakeTensor)
