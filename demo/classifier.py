"""Judge the ten attributes of pictures of faces: the ruler of the demo model's measurements.

    python demo/classifier.py --steps 1600 --out demo/classifier

The faces it learns from have independent, evenly spread attributes, unlike the data of the demo model: a judge that
had seen glasses go with age would find some age in every pair of glasses. Shifts, blur, noise and colour jitter let it
judge a generated picture as fairly as a drawn one. Every batch is drawn from its step's number.
"""

import argparse
import json
import time
from dataclasses import astuple
from pathlib import Path

import numpy as np
import torch
from attributes import AttributeClassifier
from faces import ATTRIBUTES, LOWEST_FACE, Face, render, render_batch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

BATCH = 64
LEARNING_RATE = 2e-3
FIRST_SEED, HELD_OUT_SEED = 10_000_000, 20_000_000

BINARY = [ATTRIBUTES.index(name) for name in ("glasses", "beard")]
CONTINUOUS = [i for i in range(len(ATTRIBUTES)) if i not in BINARY]
LOWEST = np.array(astuple(LOWEST_FACE), np.float32)
HIGHEST = np.ones(len(ATTRIBUTES), np.float32)


def new_classifier() -> AttributeClassifier:
    return AttributeClassifier(ATTRIBUTES, tuple(ATTRIBUTES[i] for i in BINARY))


def save(classifier: AttributeClassifier, folder: Path, **info: object) -> None:
    """`model.safetensors` in float16 and `config.json`, which holds `info`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.half() for name, tensor in classifier.state_dict().items()}, folder / "model.safetensors")
    config = {"attributes": ATTRIBUTES, "binary": [ATTRIBUTES[i] for i in BINARY], **info}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def to_tensor(pictures: np.ndarray) -> Tensor:
    """`(n, 3, h, w)` in [-1, 1] from `(n, h, w, 3)` uint8."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def independent_faces(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures `(n, 3, 64, 64)` and attributes `(n, 10)` of faces with no correlation between attributes."""
    rng = np.random.default_rng(seed)
    attributes = rng.uniform(LOWEST, HIGHEST, (n, len(ATTRIBUTES))).astype(np.float32)
    attributes[:, BINARY] = attributes[:, BINARY].round()
    pictures = np.stack([np.asarray(render(Face(*row))) for row in attributes.tolist()])
    return to_tensor(pictures), torch.from_numpy(attributes)


def disturb(pictures: Tensor) -> Tensor:
    """The same faces shifted by up to 2 pixels, blurred, slightly off in colour, noisy: each by its own amount."""
    n, size = len(pictures), pictures.shape[-1]
    shift = torch.eye(2, 3).repeat(n, 1, 1)
    shift[:, :, 2] = (torch.rand(n, 2) * 2 - 1) * 2 * 2 / size
    grid = F.affine_grid(shift, list(pictures.shape), align_corners=False)
    x = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.lerp(x, blurred, torch.rand(n, 1, 1, 1))
    x = x * (1 + 0.03 * torch.randn(n, 3, 1, 1)) + 0.03 * torch.randn(n, 3, 1, 1)
    return x + 0.08 * torch.rand(n, 1, 1, 1) * torch.randn_like(x)


def loss_of(raw: Tensor, attributes: Tensor) -> Tensor:
    """Mean squared error in units of each attribute's variance, plus cross-entropy of the binary ones."""
    variance = torch.from_numpy((HIGHEST - LOWEST) ** 2 / 12)[CONTINUOUS]
    squared = (raw - attributes)[:, CONTINUOUS].square() / variance
    return squared.mean() + F.binary_cross_entropy_with_logits(raw[:, BINARY], attributes[:, BINARY])


def train(classifier: AttributeClassifier, steps: int) -> None:
    """Fit in place; the learning rate warms up for 50 steps and falls on a cosine to zero."""
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=LEARNING_RATE, weight_decay=1e-3)
    started, recent = time.perf_counter(), 0.0
    for step in range(steps):
        rate = min(1.0, (step + 1) / 50) * 0.5 * (1 + np.cos(np.pi * step / steps))
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * rate
        torch.manual_seed(step)
        pictures, attributes = independent_faces(BATCH, FIRST_SEED + step)
        loss = loss_of(classifier(disturb(pictures)), attributes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        recent += loss.item()
        if (step + 1) % 100 == 0:
            minutes = (time.perf_counter() - started) / 60
            print(f"step {step + 1}: loss {recent / 100:.4f}, {minutes:.1f} minutes", flush=True)
            recent = 0.0


def area_under_curve(scores: np.ndarray, labels: np.ndarray) -> float:
    """Probability that a random positive scores above a random negative."""
    positive, negative = scores[labels > 0.5], scores[labels <= 0.5]
    return float((positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean())


def held_out_accuracy(classifier: AttributeClassifier, n: int = 2000, seed: int = HELD_OUT_SEED) -> dict[str, float]:
    """For faces of the data's own distribution: correlation per attribute, area under the curve for binary ones."""
    pictures, attributes = render_batch(n, seed)
    scores = classifier.scores(to_tensor(pictures)).numpy()
    accuracy = {}
    for i, name in enumerate(ATTRIBUTES):
        measure = area_under_curve if i in BINARY else lambda a, b: float(np.corrcoef(a, b)[0, 1])
        accuracy[name] = round(measure(scores[:, i], attributes[:, i]), 4)
    return accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(0)
    classifier = new_classifier()
    train(classifier, options.steps)
    save(classifier, options.out)
    accuracy = held_out_accuracy(AttributeClassifier.load(options.out))
    save(classifier, options.out, steps=options.steps, held_out=accuracy)
    for name, value in accuracy.items():
        print(f"{name:12} {value:.4f}")


if __name__ == "__main__":
    main()
