"""Train the transformer of the prompted faces, plainly, by flow matching. VAE and text encoder are the UNet's.

    python demo/transformer/train.py --vae OUT/vae.safetensors --text OUT/text.safetensors --out OUT

Started again, it goes on from its last saved state. `unpack.py` gives the two files back.
"""

import torch
from network import build_transformer
from torch import Tensor, nn
from training import Said, command_line, train
from words import Words


def error_of_velocity(flux: nn.Module, latents: Tensor, said: Said) -> Tensor:
    """Mean squared error of noise - latents, at logit-normal times spread evenly over the batch (Esser et al. 2024).

    Behind a caption stand any number of end tokens, drawn for each batch: a prompt in ComfyUI has them up to 77.
    """
    batch = len(latents)
    sigma = torch.special.ndtri((torch.randperm(batch) + torch.rand(batch)) / batch).sigmoid().to(latents.device)
    longest = int((said.tokens != Words.end).sum(1).max()) + 1
    length = int(torch.randint(longest, max(longest, said.tokens.shape[1]) + 1, (2,)).min())
    noise = torch.randn_like(latents)
    share = sigma.view(-1, 1, 1, 1)
    velocity: Tensor = flux((1 - share) * latents + share * noise, sigma, said.words[:, :length], said.summary)
    return (velocity.float() - (noise - latents)).square().mean()


if __name__ == "__main__":
    torch.manual_seed(0)
    with torch.autograd.graph.allow_mutation_on_saved_tensors():  # Flux adds in place to what is to be differentiated
        train(build_transformer(), error_of_velocity, command_line(__doc__))
