"""Measure a demo model with diffusers alone: what h carries, and how like the data its pictures are.

    python demo/measure.py --model demo/ddpm --classifier demo/classifier --out demo

Writes `measurements.json` and `samples.jpg`, and prints the tables.
"""

import argparse
import json
import runpy
from pathlib import Path

import numpy as np
import torch
from attributes import AttributeClassifier
from classifier import to_tensor
from diffusers import DDIMScheduler, UNet2DModel
from faces import ATTRIBUTES, render_batch
from PIL import Image
from scipy.stats import ks_2samp
from torch import Tensor

BATCH = 32
SWAP_PAIRS, SWAP_STEPS = 64, 10
SAMPLES, STEPS = 512, 20
SHEET_COLUMNS, SHEET_ROWS = 12, 4
REFERENCE_FACES, REFERENCE_SEED = 20_000, 30_000_000
FRESH_FACES, FRESH_SEED = 2_000, 40_000_000
PARTS = ("swap", "distribution", "cleanliness", "samples")
CORRELATED = (("age", "glasses"), ("hair_length", "beard"))

Table = dict[str, dict[str, float]]


class Sampler:
    """Deterministic DDIM (eta 0, trailing timesteps) whose h can be read and replaced at every step."""

    def __init__(self, folder: Path):
        self.unet = UNet2DModel.from_pretrained(folder, torch_dtype=torch.float32, low_cpu_mem_usage=False).eval()
        config = DDIMScheduler.load_config(folder)
        self.scheduler = DDIMScheduler.from_config(config, timestep_spacing="trailing")

    def run(self, seeds: list[int], steps: int, h: Tensor | None = None) -> tuple[np.ndarray, Tensor]:
        """Pictures `(n, 64, 64, 3)` uint8 and h `(n, steps, c, h, w)`; a given `h` takes the place of their own."""
        batches = [slice(i, i + BATCH) for i in range(0, len(seeds), BATCH)]
        results = [self._run_batch(seeds[b], steps, None if h is None else h[b]) for b in batches]
        return np.concatenate([r[0] for r in results]), torch.cat([r[1] for r in results])

    @torch.no_grad()
    def _run_batch(self, seeds: list[int], steps: int, h: Tensor | None) -> tuple[np.ndarray, Tensor]:
        own_h: list[Tensor] = []

        def read_and_replace(module: torch.nn.Module, args: tuple, output: Tensor) -> Tensor:
            own_h.append(output)
            return output if h is None else h[:, len(own_h) - 1]

        x = torch.stack([torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        self.scheduler.set_timesteps(steps)
        handle = self.unet.mid_block.register_forward_hook(read_and_replace)
        try:
            for timestep in self.scheduler.timesteps:
                x = self.scheduler.step(self.unet(x, timestep).sample, timestep, x).prev_sample
        finally:
            handle.remove()
        pictures = ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1)  # NCHW -> NHWC
        return pictures.numpy(), torch.stack(own_h, 1)


def measure_swap(sampler: Sampler, classifier: AttributeClassifier) -> Table:
    """Per attribute, how much of the score of a face with another's h follows the other: 1 all, 0 nothing.

    `donor` and `own` are the least-squares weights of the two faces' scores; `share` is donor / (donor + own).
    """
    own, _ = sampler.run(list(range(SWAP_PAIRS)), SWAP_STEPS)
    donor, donor_h = sampler.run(list(range(SWAP_PAIRS, 2 * SWAP_PAIRS)), SWAP_STEPS)
    swapped, _ = sampler.run(list(range(SWAP_PAIRS)), SWAP_STEPS, donor_h)
    own_scores, donor_scores, swapped_scores = (
        classifier.scores(to_tensor(pictures)).double().numpy() for pictures in (own, donor, swapped)
    )
    table: Table = {}
    for i, name in enumerate(ATTRIBUTES):
        causes = np.stack([donor_scores[:, i], own_scores[:, i], np.ones(SWAP_PAIRS)], 1)
        weights = np.linalg.lstsq(causes, swapped_scores[:, i], rcond=None)[0]
        table[name] = {"share": weights[0] / (weights[0] + weights[1]), "donor": weights[0], "own": weights[1]}
    return table


def measure_distribution(generated: np.ndarray, fresh: np.ndarray, classifier: AttributeClassifier) -> Table:
    """Scores of generated pictures beside those of fresh renders: mean, standard deviation, Kolmogorov-Smirnov."""
    ours, theirs = (classifier.scores(to_tensor(pictures)).numpy() for pictures in (generated, fresh))
    table: Table = {}
    for i, name in enumerate(ATTRIBUTES):
        a, b = ours[:, i], theirs[:, i]
        distance = ks_2samp(a, b).statistic
        table[name] = {"mean": a.mean(), "data mean": b.mean(), "std": a.std(), "data std": b.std(), "ks": distance}
    for pair in CORRELATED:
        i, j = (ATTRIBUTES.index(name) for name in pair)
        correlations = (float(np.corrcoef(scores[:, i], scores[:, j])[0, 1]) for scores in (ours, theirs))
        table["-".join(pair)] = dict(zip(("correlation", "data correlation"), correlations, strict=True))
    return table


def nearest_distance(pictures: np.ndarray, reference: np.ndarray) -> float:
    """Mean L2 distance of each picture to the nearest reference picture."""
    x = to_tensor(pictures).flatten(1)
    nearest = torch.full((len(x),), torch.inf)
    for start in range(0, len(reference), 1000):
        chunk = to_tensor(reference[start : start + 1000]).flatten(1)
        nearest = torch.minimum(nearest, torch.cdist(x, chunk).amin(1))
    return nearest.mean().item()


def total_variation(pictures: np.ndarray) -> float:
    """Mean absolute difference of neighbouring pixels, down plus across, in 8-bit levels."""
    x = pictures.astype(np.float32)
    return float(np.abs(np.diff(x, axis=1)).mean() + np.abs(np.diff(x, axis=2)).mean())


def measure_cleanliness(generated: np.ndarray, fresh: np.ndarray, reference: np.ndarray) -> Table:
    """Ratios of generated pictures to fresh renders, 1 is as clean as data; no classifier is asked."""
    distance = nearest_distance(generated, reference) / nearest_distance(fresh, reference)
    variation = total_variation(generated) / total_variation(fresh)
    return {"generated / data": {"distance to nearest render": distance, "total variation": variation}}


def save_sheet(pictures: np.ndarray, path: Path) -> None:
    """The first 48 pictures, unselected, 12 across, at twice their size."""
    size = pictures.shape[1]
    cells = pictures[: SHEET_ROWS * SHEET_COLUMNS].reshape(SHEET_ROWS, SHEET_COLUMNS, size, size, 3)
    sheet = cells.swapaxes(1, 2).reshape(SHEET_ROWS * size, SHEET_COLUMNS * size, 3)
    Image.fromarray(sheet.repeat(2, 0).repeat(2, 1)).save(path, quality=85)


def report(title: str, table: Table) -> Table:
    """The table rounded to four decimals, printed as soon as it is known."""
    rounded = {name: {column: round(float(value), 4) for column, value in row.items()} for name, row in table.items()}
    print(f"\n{title}")
    for name, row in rounded.items():
        print(f"{name:18}" + "".join(f"  {column} {value:6.3f}" for column, value in row.items()), flush=True)
    return rounded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="DDPM in diffusers format")
    parser.add_argument("--classifier", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--renderer", type=Path, help="file whose render_batch(n, seed) drew the model's data; faces.py by default"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    render = runpy.run_path(str(options.renderer))["render_batch"] if options.renderer else render_batch
    sampler, classifier = Sampler(options.model), AttributeClassifier.load(options.classifier)
    results: dict[str, Table] = {}
    if "swap" in options.parts:
        results["swap"] = report("swap", measure_swap(sampler, classifier))
    if set(options.parts) - {"swap"}:
        generated, _ = sampler.run(list(range(SAMPLES)), STEPS)
        fresh, _ = render(FRESH_FACES, FRESH_SEED)
    if "distribution" in options.parts:
        results["distribution"] = report("distribution", measure_distribution(generated, fresh, classifier))
    if "cleanliness" in options.parts:
        reference, _ = render(REFERENCE_FACES, REFERENCE_SEED)
        results["cleanliness"] = report("cleanliness", measure_cleanliness(generated, fresh[:SAMPLES], reference))
    if "samples" in options.parts:
        save_sheet(generated, options.out / "samples.jpg")
    (options.out / "measurements.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
