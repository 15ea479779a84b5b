"""What the principal components of the demo model mean: attribute against strength, beside random directions.

    python -m pytest tests/benchmarks/semantics.py        (about ten minutes on two cores)

Finds ten components in a bank of 300, injects each into 64 fresh seeds at strengths -3..3 and lets the attribute
classifier judge. Ten random directions of the same norm at every timestep are the control. Writes
docs/semantics.md, docs/semantics.json and docs/semantics.png.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from demo_model import DemoModel
from scipy.stats import spearmanr

pytestmark = pytest.mark.comfy

DOCS = Path(__file__).parents[2] / "docs"
COMPONENTS, TRAJECTORIES, SEEDS = 10, 300, range(100_000, 100_064)
STRENGTHS = (-3.0, -1.5, 0.0, 1.5, 3.0)


def test_measure_semantics(pack, tmp_path):
    demo = DemoModel(pack, tmp_path)
    components = list(demo.directions.find_components(demo.recorded(TRAJECTORIES), COMPONENTS))
    generator = torch.Generator().manual_seed(0)
    controls = [norm_matched_random(component, generator) for component in components]
    plain = demo.scores(SEEDS, sampler=demo.euler)
    rows = [measure(demo, direction, plain) for direction in [*components, *controls]]
    write(rows, demo.judge.columns)


def norm_matched_random(direction, generator):
    """A random direction whose norm at every timestep is that of `direction`."""
    noise = torch.randn(direction.deltas["middle"].shape, generator=generator)
    norms = direction.deltas["middle"].flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
    return replace(
        direction,
        deltas={"middle": noise * norms.reshape(-1, 1, 1, 1)},
        name=direction.name.replace("component", "random"),
    )


def measure(demo, direction, plain) -> dict:
    """Spearman correlation of each attribute's change with strength, and the change per unit in standard deviations."""
    change = torch.stack(
        [
            demo.scores(SEEDS, [(direction, strength)], sampler=demo.euler) - plain if strength else plain * 0
            for strength in STRENGTHS
        ]
    )
    strength = torch.tensor(STRENGTHS).repeat_interleave(len(plain))
    rho = [spearmanr(strength, change[:, :, i].flatten()).statistic for i in range(plain.shape[1])]
    slope = (torch.tensor(STRENGTHS).reshape(-1, 1) * change.mean(1)).sum(0) / torch.tensor(STRENGTHS).square().sum()
    return {
        "name": direction.name,
        "spearman": [0.0 if math.isnan(value) else round(float(value), 3) for value in rho],
        "effect": [round(float(value), 3) for value in slope / plain.std(0)],
    }


def write(rows: list[dict], attributes) -> None:
    DOCS.mkdir(exist_ok=True)
    (DOCS / "semantics.json").write_text(json.dumps({"attributes": attributes, "rows": rows}, indent=1) + "\n")
    lines = [
        "# What the components of the demo model mean",
        "",
        f"Spearman correlation of each attribute's change with strength ({STRENGTHS[0]:g} to {STRENGTHS[-1]:g}) over "
        f"{len(SEEDS)} fresh seeds, euler, 10 steps; in brackets the change per unit of strength, in standard "
        "deviations of the pictures. Made by `python -m pytest tests/benchmarks/semantics.py`.",
        "",
        "| | " + " | ".join(name.replace("_", " ") for name in attributes) + " |",
        "|---" * (len(attributes) + 1) + "|",
    ]
    for row in rows:
        cells = [
            f"{'**' * strong}{rho:+.2f} ({effect:+.2f}){'**' * strong}"
            for rho, effect in zip(row["spearman"], row["effect"], strict=True)
            for strong in [abs(rho) > 0.9]
        ]
        lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    found, random = rows[:COMPONENTS], rows[COMPONENTS:]
    lines += [
        "",
        f"{steady(found)} of {len(found)} components move an attribute with a correlation over .9, {steady(random)} "
        f"of {len(random)} random directions; the largest change per unit is {largest(found):.2f} standard deviations "
        f"by a component and {largest(random):.2f} by a random direction.",
    ]
    (DOCS / "semantics.md").write_text("\n".join([*lines, "", "![](semantics.png)", ""]))
    plot(rows, attributes)


def steady(rows: list[dict]) -> int:
    return sum(max(map(abs, row["spearman"])) > 0.9 for row in rows)


def largest(rows: list[dict]) -> float:
    return max(abs(effect) for row in rows for effect in row["effect"])


def plot(rows: list[dict], attributes) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.6), sharey=False, layout="constrained")
    for axis, part, title in zip(
        axes, (rows[:COMPONENTS], rows[COMPONENTS:]), ("Principal components", "Random, same norm"), strict=True
    ):
        image = axis.imshow([row["spearman"] for row in part], cmap="RdBu", vmin=-1, vmax=1)
        axis.set_title(title)
        axis.set_xticks(
            range(len(attributes)), [name.replace("_", " ") for name in attributes], rotation=45, ha="right"
        )
        axis.set_yticks(range(len(part)), [row["name"] for row in part])
        for y, row in enumerate(part):
            for x, effect in enumerate(row["effect"]):
                strong = abs(row["spearman"][x]) > 0.6
                axis.text(
                    x,
                    y,
                    f"{effect:+.1f}".replace("-0.0", "0").replace("+0.0", "0"),
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if strong else "black",
                )
    figure.colorbar(image, ax=axes, label="Spearman correlation with strength")
    figure.suptitle(
        "Colour: how steadily an attribute follows the strength. Number: its change per unit, in standard deviations.",
        fontsize=10,
    )
    figure.savefig(DOCS / "semantics.png", dpi=110)
