"""PCA of large banks at SD 1.5's size: time and memory, against scikit-learn, and how they grow.

    python -m pytest -s tests/benchmarks/scale.py                        (half an hour on two cores, 6 GB of disk)

The banks hold random numbers with a planted spectrum, written by the bank's own writer. Times against IncrementalPCA
are of one run, in turn. The bank of 10,000 trajectories is searched in a process of its own, whose largest resident
size is what is reported. Writes docs/scale.json and docs/scale.png.
"""

import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from results import known, remember
from sklearn.decomposition import PCA, IncrementalPCA

from directions import Source, find_components, open_bank, write_shard

DOCS = Path(__file__).parents[2] / "docs"
RESULTS = DOCS / "scale.json"
SD15 = (1280, 8, 8)
RANK, COMPONENTS, AT_ONCE, ROUNDS = 64, 25, 100, 3


def write_bank(folder: Path, n: int, shape=SD15, steps: int = 1, first: int = 0) -> None:
    """`n` trajectories from seed `first` up: a planted spectrum that falls off slowly, and noise."""
    width = int(np.prod(shape))
    basis = torch.randn(RANK, width, generator=torch.Generator().manual_seed(0))
    strengths = torch.arange(RANK, 0, -1).float() / RANK
    for start in range(first, first + n, AT_ONCE):
        draw = torch.Generator().manual_seed(start)
        count = min(AT_ONCE, first + n - start)
        h = torch.empty(count, steps, width, dtype=torch.float16)
        for step in range(steps):
            weights = torch.randn(count, RANK, generator=draw) * strengths
            h[:, step] = (weights @ basis + 0.3 * torch.randn(count, width, generator=draw)).half()
        write_shard(
            folder, range(start, start + count), timesteps=torch.linspace(999, 0, steps) if steps > 1 else
            torch.tensor([500.0]), h={"middle": h.reshape(count, steps, *shape)}, latents=torch.zeros(count, 4, 64, 64),
            source=Source("SD15", "0", "positive", (512, 512)), recipe="{}",
        )  # fmt: skip


def seconds(work) -> tuple[float, object]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def test_against_incremental_pca(tmp_path):
    """n = 1000, d = 81,920, k = 25: time of both in turn, and how far each is from an exact PCA in float64."""
    write_bank(tmp_path, 1000)
    bank = open_bank(tmp_path)
    h = bank.h("middle", 0).flatten(1).numpy()
    exact = PCA(COMPONENTS, svd_solver="covariance_eigh" if h.shape[1] < h.shape[0] else "full").fit(
        h.astype(np.float64)
    )
    rows = []
    for _ in range(ROUNDS):
        ours, found = seconds(lambda: find_components(bank, COMPONENTS))
        theirs, incremental = seconds(lambda: IncrementalPCA(COMPONENTS, batch_size=100).fit(h))
        rows.append((ours, theirs, theirs / ours))
        print(f"ours {ours:.2f} s, IncrementalPCA {theirs:.1f} s: {theirs / ours:.1f} times", flush=True)
    components = torch.stack([d.deltas["middle"].flatten() for d in found]).double().numpy()
    components /= np.linalg.norm(components, axis=1, keepdims=True)
    error = {
        "ours": worst_angle(components, exact.components_),
        "IncrementalPCA": worst_angle(incremental.components_, exact.components_),
    }
    variance = {
        "ours": float(np.abs(found.spectrum[:, 0].numpy() / exact.explained_variance_ratio_ - 1).max()),
        "IncrementalPCA": float(
            np.abs(incremental.explained_variance_ratio_ / exact.explained_variance_ratio_ - 1).max()
        ),
    }
    print("largest angle to the exact component, degrees", error, "relative error of variances", variance)
    remember(RESULTS, "against IncrementalPCA", {"seconds": rows, "angle": error, "variance": variance})


def worst_angle(components: np.ndarray, exact: np.ndarray) -> float:
    cosines = np.abs((components * exact).sum(1)).clip(0, 1)
    return float(np.degrees(np.arccos(cosines)).max())


GROWTH = {
    "n": [(n, SD15, 1) for n in (250, 500, 1000, 2000)],
    "d": [(500, (channels, 8, 8), 1) for channels in (320, 640, 1280, 2560)],
    "t": [(500, SD15, t) for t in (1, 2, 4, 8)],
}


def test_growth(tmp_path):
    results = {}
    for what, sizes in GROWTH.items():
        for n, shape, steps in sizes:
            folder = tmp_path / f"{n} {shape[0]} {steps}"
            write_bank(folder, n, shape, steps)
            bank = open_bank(folder)
            size = {"n": n, "d": int(np.prod(shape)), "t": steps}[what]
            took = min(seconds(lambda bank=bank: find_components(bank, COMPONENTS))[0] for _ in range(ROUNDS))
            results.setdefault(what, {})[size] = took
            print(what, size, f"{took:.2f} s", flush=True)
            shutil.rmtree(folder)
    remember(RESULTS, "growth", results)
    draw(known(RESULTS)["growth"])


SECONDS = (0.1, 0.2, 0.5, 1, 2, 5)


def draw(results: dict) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    labels = {"n": "trajectories n", "d": "numbers of h, d", "t": "timesteps t"}
    for axis, (what, times) in zip(figure.subplots(1, 3, sharey=True), results.items(), strict=True):
        axis.loglog(list(map(int, times)), list(times.values()), "o-", color="#0072b2")
        axis.set_xticks(list(map(int, times)), [f"{int(size):,}" for size in times])
        axis.set_yticks(SECONDS, [f"{tick:g} s" for tick in SECONDS])
        axis.minorticks_off()
        axis.set_xlabel(labels[what])
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Exact PCA, k = 25 (n 500, d 81,920, t 1 where not varied)", fontsize=10)
    figure.savefig(DOCS / "scale.png", dpi=110)


LARGE = """
import json, resource, sys, time
from pathlib import Path
from directions import find_components, open_bank

def timed(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result

folder = Path(sys.argv[1])
opened, bank = timed(lambda: open_bank(folder))
picked, rows = timed(lambda: bank.select(bank.seeds[::100]).h("middle", 0))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found, directions = timed(lambda: find_components(bank, 25))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"open": opened, "pick 100 rows": picked, "PCA": found, "GiB before": before / 2**20,
                  "GiB at most": peak / 2**20, "first": directions.spectrum[:3].tolist()}))
"""


def test_ten_thousand_trajectories(tmp_path):
    write_bank(tmp_path, 10_000)
    run = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path)], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    result = json.loads(run.stdout)
    print(result)
    remember(RESULTS, "10,000 trajectories", result)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20 < 2


@pytest.mark.parametrize("span", ["each timestep", "whole trajectory"])
def test_banks_joined_by_copying_are_one_bank(tmp_path, span):
    """Recorded on two machines with different seeds, or on one: the same directions, to the bit."""
    for name, first, n in (("one", 0, 400), ("a", 0, 200), ("b", 200, 200)):
        write_bank(tmp_path / name, n, (64, 8, 8), 3, first)
    for shard in (tmp_path / "b").iterdir():
        shutil.copy(shard, tmp_path / "a")
    joined, whole = (find_components(open_bank(tmp_path / name), 5, span=span) for name in ("a", "one"))
    assert all(torch.equal(x.deltas["middle"], y.deltas["middle"]) for x, y in zip(joined, whole, strict=True))
