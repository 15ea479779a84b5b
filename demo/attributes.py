"""The network that judges the ten attributes of a demo face. `classifier.py` trains it."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

WIDTHS, STRIDES = (24, 48, 80, 112, 128), (2, 1, 2, 2, 2)
SIZE = 64


class AttributeClassifier(nn.Module):
    """The attributes of pictures `(n, 3, 64, 64)` in [-1, 1].

    `operations` makes the layers: torch's own, or ComfyUI's, which draw no weights to be replaced at once.
    """

    def __init__(self, attributes: tuple[str, ...], binary: tuple[str, ...], operations: Any = nn):
        super().__init__()
        self.attributes = attributes
        self.binary = [attributes.index(name) for name in binary]
        layers: list[nn.Module] = []
        for before, width, stride in zip((3, *WIDTHS), WIDTHS, STRIDES, strict=False):
            layers += [operations.Conv2d(before, width, 3, stride, 1), operations.GroupNorm(8, width), nn.SiLU()]
        self.features = nn.Sequential(*layers)
        self.head = operations.Linear(WIDTHS[-1] * 4 * 4, len(attributes))

    def forward(self, pictures: Tensor) -> Tensor:
        """`(n, 10)`: attribute units, but a logit for each binary attribute."""
        return self.head(self.features(pictures).flatten(1))

    @torch.no_grad()
    def scores(self, pictures: Tensor) -> Tensor:
        """`(n, 10)` in attribute units, a probability for each binary attribute."""
        return torch.cat([self.units(self(chunk)) for chunk in pictures.split(256)])

    def units(self, raw: Tensor) -> Tensor:
        """What `forward` says, with logits as probabilities."""
        binary = torch.zeros(raw.shape[1], dtype=torch.bool, device=raw.device)
        binary[self.binary] = True
        return torch.where(binary, raw.sigmoid(), raw)

    @classmethod
    def load(cls, folder: Path, operations: Any = nn) -> "AttributeClassifier":
        """The saved classifier, float32, ready to judge."""
        config = json.loads((folder / "config.json").read_text())
        classifier = cls(tuple(config["attributes"]), tuple(config["binary"]), operations)
        classifier.load_state_dict({name: t.float() for name, t in load_file(folder / "model.safetensors").items()})
        return classifier.eval().requires_grad_(False)
