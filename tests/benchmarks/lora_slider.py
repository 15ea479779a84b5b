"""A LoRA concept slider (Gandikota et al., arXiv 2311.12092), trained on the published objective.

Rank 4 and alpha 1 on the linear layers of self-attention and what follows it, not on cross-attention ("noxattn", their
default). x_t comes from recorded samplings of the model without the slider, eight to a batch, where the authors sample
anew, one at a time, for each of 1,000 iterations.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

RANK, ALPHA, ETA = 4, 1.0, 4.0
"""eta: how many differences of the two prompts strength 1 is to go; theirs."""
BATCH, ITERATIONS, LEARNING_RATE = 8, 300, 2e-3


class Slider:
    """What is added to each layer's output while it is on."""

    def __init__(self, unet: nn.Module):
        self.layers = {
            name: module
            for name, module in unet.named_modules()
            if isinstance(module, nn.Linear) and "transformer_blocks" in name and ".attn2" not in name
        }
        generator = torch.Generator().manual_seed(0)
        self.down, self.up = {}, {}
        for name, layer in self.layers.items():
            device = layer.weight.device
            down = torch.randn(RANK, layer.in_features, generator=generator) / layer.in_features**0.5
            self.down[name] = down.to(device).requires_grad_()
            self.up[name] = torch.zeros(layer.out_features, RANK, device=device, requires_grad=True)

    def parameters(self) -> list[Tensor]:
        return [*self.down.values(), *self.up.values()]

    def __enter__(self) -> "Slider":
        def hook(name):
            return lambda layer, args, out: out + args[0] @ self.down[name].T @ self.up[name].T * (ALPHA / RANK)

        self.handles = [layer.register_forward_hook(hook(name)) for name, layer in self.layers.items()]
        return self

    def __exit__(self, *raised) -> None:
        for handle in self.handles:
            handle.remove()

    def file(self) -> dict[str, Tensor]:
        """As LoRA files are laid out, for core's own loader."""
        tensors = {}
        for name in self.layers:
            place = f"diffusion_model.{name}"
            tensors[f"{place}.lora_down.weight"] = self.down[name].detach().half().cpu()
            tensors[f"{place}.lora_up.weight"] = self.up[name].detach().half().cpu()
            tensors[f"{place}.alpha"] = torch.tensor(ALPHA)
        return tensors


def train(
    unet: nn.Module, recorded: Mapping[float, Tensor], neutral: Tensor, towards: Tensor, away: Tensor
) -> dict[str, Tensor]:
    """The slider's file. `recorded` are inputs `(n, 4, h, w)` of the UNet by timestep; the prompts `(n, 77, c)`."""
    slider, generator = Slider(unet), torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(slider.parameters(), lr=LEARNING_RATE)
    timesteps: Sequence[float] = list(recorded)
    device = slider.parameters()[0].device
    prompts = [each.to(device) for each in (neutral, towards, away)]
    for _ in range(ITERATIONS):
        timestep = timesteps[torch.randint(len(timesteps), (), generator=generator)]
        rows = torch.randperm(len(neutral), generator=generator)[:BATCH]
        x, t = recorded[timestep][rows].to(device), torch.tensor([timestep], device=device)
        contexts = [each[rows.to(device)] for each in prompts]
        with torch.no_grad():
            plain, plus, minus = unet(x.repeat(3, 1, 1, 1), t.expand(3 * BATCH), context=torch.cat(contexts)).chunk(3)
        with slider, torch.enable_grad():
            loss = (unet(x, t.expand(BATCH), context=contexts[0]) - plain - ETA * (plus - minus)).square().mean()
            loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return slider.file()
