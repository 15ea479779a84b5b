"""Train the UNet of the prompted faces, plainly: nothing is dropped but words. VAE and text encoder are left alone.

    python demo/prompted/train.py --vae OUT/vae.safetensors --text OUT/text.safetensors --out OUT

A v-prediction model on Stable Diffusion's noise schedule. Started again, it goes on from its last saved state.
"""

import torch
from networks import build_unet
from torch import Tensor, nn
from training import Said, command_line, train

ALPHAS = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0).float()


def error_of_v(unet: nn.Module, latents: Tensor, said: Said) -> Tensor:
    """Mean squared error of v, at timesteps spread evenly over the batch."""
    batch, device = len(latents), latents.device
    timesteps = ((torch.arange(batch) + torch.rand(1)) / batch * 1000).long()
    alpha = ALPHAS[timesteps].view(-1, 1, 1, 1).to(device)
    noise = torch.randn_like(latents)
    noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
    wanted = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
    v: Tensor = unet(noisy, timesteps.to(device), context=said.words)
    return (v - wanted).square().mean()


if __name__ == "__main__":
    torch.manual_seed(0)
    train(build_unet(), error_of_v, command_line(__doc__))
