"""A LoRA concept slider (Gandikota et al., arXiv 2311.12092), trained on the published objective.

Rank 4 and alpha 1 on the linear layers of self-attention and what follows it, not on cross-attention ("noxattn", their
default). x_t comes from recorded samplings of the model without the slider, eight to a batch, where the authors sample
anew, one at a time, for each of 1,000 iterations.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

RANK, ALPHA, ETA = 4, 1.0, 4.0
"""eta: how many differences of the two prompts strength 1 is to go; theirs."""
BATCH, ITERATIONS, LEARNING_RATE = 8, 300, 2e-3


class Slider:
    """What is added to each layer's output while it is on."""

    def __init__(self, network: nn.Module, adapted: Callable[[str], bool]):
        linear = ((name, each) for name, each in network.named_modules() if isinstance(each, nn.Linear))
        self.layers = {name: layer for name, layer in linear if adapted(name)}
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


def without_cross_attention(name: str) -> bool:
    """Of a layer of Stable Diffusion."""
    return "transformer_blocks" in name and ".attn2" not in name


Prompts = tuple[Tensor, ...]
"""Of n pictures: what the text encoder made, each `(n, ...)`."""


def train(
    slider: Slider, predict: Callable[..., Tensor], recorded: Mapping[float, Tensor], neutral: Prompts,
    towards: Prompts, away: Prompts,
) -> dict[str, Tensor]:  # fmt: skip
    """The slider's file. `recorded` are inputs `(n, 4, h, w)` of the network by timestep; `predict(x, t, *prompts)`."""
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(slider.parameters(), lr=LEARNING_RATE)
    timesteps: Sequence[float] = list(recorded)
    device = slider.parameters()[0].device
    prompts = [tuple(part.to(device) for part in each) for each in (neutral, towards, away)]
    for _ in range(ITERATIONS):
        timestep = timesteps[torch.randint(len(timesteps), (), generator=generator)]
        rows = torch.randperm(len(neutral[0]), generator=generator)[:BATCH]
        x, t = recorded[timestep][rows].to(device), torch.tensor([timestep], device=device)
        said = [tuple(part[rows.to(device)] for part in each) for each in prompts]
        with torch.no_grad():
            together = map(torch.cat, zip(*said, strict=True))
            plain, plus, minus = predict(x.repeat(3, 1, 1, 1), t.expand(3 * BATCH), *together).chunk(3)
        with slider, torch.enable_grad():
            loss = (predict(x, t.expand(BATCH), *said[0]) - plain - ETA * (plus - minus)).square().mean()
            loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return slider.file()
