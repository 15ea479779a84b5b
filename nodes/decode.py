"""The pictures of a bank, decoded piece by piece."""

from collections.abc import Iterator

import comfy.model_management
import comfy.utils
from torch import Tensor

from ..directions import Bank


def decoded(bank: Bank, vae, batch_size: int) -> Iterator[Tensor]:
    """Images `(at most batch_size, height, width, 3)` in 0..1, in the bank's order. Shows progress, can be stopped."""
    bar = comfy.utils.ProgressBar(len(bank))
    for first in range(0, len(bank), batch_size):
        comfy.model_management.throw_exception_if_processing_interrupted()
        last = min(first + batch_size, len(bank))
        yield vae.decode(bank.latents(first, last))
        bar.update_absolute(last)
