"""Train the VAE of the prompted faces: 64x64 pictures to 4x32x32 latents and back.

    python demo/prompted/train_vae.py --steps 1800 --out OUT

Latents are standardised by batch normalisation, then disturbed by noise that the decoder learns to take away, so that
what a denoiser leaves behind does not show. At the end the normalisation is folded into the last layer of the encoder.
"""

import argparse
import math
import time
from pathlib import Path

import torch
from classifier import to_tensor
from faces import render_batch
from networks import build_vae, encoded
from safetensors.torch import save_file
from torch.nn import functional

BATCH = 16
LEARNING_RATE = 2e-3
NOISE = 0.15
"""The largest standard deviation of the disturbance, in units of the latents' own."""


def pictures_of(step: int, whole: bool) -> torch.Tensor:
    """The batch that belongs to a step, `(n, 3, 64, 64)` in -1..1; or pieces of 32x32 of it, which are quicker."""
    pictures, _ = render_batch(BATCH, 10_000_000 + step)
    x = to_tensor(pictures)
    top, left = torch.randint(33, (2,)).tolist()
    return x if whole else x[..., top : top + 32, left : left + 32]


def loss_of(decoded: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Mean absolute error of the pixels; of the differences between neighbours, which keeps edges sharp; and of means
    over 4x4, which keeps colours."""
    error = decoded - pictures
    parts = (error, error.diff(dim=3), error.diff(dim=2), 2 * functional.avg_pool2d(error, 4))
    return sum((part.abs().mean() for part in parts), error.square().mean())


def fold(vae, norm: torch.nn.BatchNorm2d) -> None:
    """Let the encoder itself answer with standardised latents, and with no variance of its own."""
    std = (norm.running_var + norm.eps).sqrt()
    weight, bias = vae.quant_conv.weight, vae.quant_conv.bias
    latents = len(std)
    weight.data[:latents] /= std.view(-1, 1, 1, 1)
    bias.data[:latents] = (bias.data[:latents] - norm.running_mean) / std
    weight.data[latents:], bias.data[latents:] = 0, -30


def train(steps: int, out: Path) -> None:
    torch.manual_seed(0)
    vae = build_vae().train()
    norm = torch.nn.BatchNorm2d(4, affine=False, momentum=0.02)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=LEARNING_RATE, weight_decay=1e-4, betas=(0.9, 0.99), fused=True)
    started, losses = time.perf_counter(), []
    for step in range(steps):
        torch.manual_seed(step)
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * min(1, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
        pictures = pictures_of(step, whole=step >= 0.75 * steps)
        latents = norm(encoded(vae, pictures))
        strength = NOISE * torch.rand(BATCH, 1, 1, 1)
        decoded = vae.decoder(vae.post_quant_conv(latents + strength * torch.randn_like(latents)))
        loss = loss_of(decoded, pictures)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(functional.mse_loss(decoded, pictures).item())
        if (step + 1) % 50 == 0:
            psnr = 10 * math.log10(4 / (sum(losses[-50:]) / 50))
            print(f"{step + 1} PSNR {psnr:.2f} dB, {(time.perf_counter() - started) / 60:.1f} min", flush=True)
    fold(vae, norm)
    save_file({k: v.contiguous() for k, v in vae.state_dict().items()}, out / "vae.safetensors")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    train(options.steps, options.out)
