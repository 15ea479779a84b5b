"""Pictures of latents: those of a bank piece by piece, and with their gradient."""

from collections.abc import Iterator

import comfy.model_management
import comfy.utils
import torch
from torch import Tensor

from ...directions import Bank
from .derivatives import with_autograd_weights
from .loading import require_loaded


def decoded(bank: Bank, vae, batch_size: int) -> Iterator[Tensor]:
    """Images `(at most batch_size, height, width, 3)` in 0..1, in the bank's order. Shows progress, can be stopped."""
    bar = comfy.utils.ProgressBar(len(bank))
    for first in range(0, len(bank), batch_size):
        comfy.model_management.throw_exception_if_processing_interrupted()
        last = min(first + batch_size, len(bank))
        yield vae.decode(bank.latents(first, last))
        bar.update_absolute(last)


def decoded_with_gradient(vae, latents: Tensor) -> Tensor:
    """Pictures `(n, 3, height, width)` float32 in 0..1, on the VAE's own device."""
    require_loaded(vae.patcher)
    device = vae.patcher.load_device
    decode = with_autograd_weights(_Decoder(vae.first_stage_model), device)
    pictures = decode(latents.to(device, vae.vae_dtype))
    return vae.process_output(pictures.float().clone())  # which it does in place


class _Decoder(torch.nn.Module):
    def __init__(self, first_stage: torch.nn.Module):
        super().__init__()
        self.first_stage = first_stage

    def forward(self, latents: Tensor) -> Tensor:
        return self.first_stage.decode(latents)
