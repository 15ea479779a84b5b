"""One process with two threads against two worker processes with one each: an exact PCA of SD 1.5's size.

    python -m pytest -s tests/benchmarks/executors.py         (twenty minutes on two cores, 2 GB of disk)

Each run is a process of its own, in turn, so that its largest resident size is its own. Figures: docs/scale.json.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from results import known, remember
from scale import RESULTS, write_bank

SIZES, ROUNDS = (1000, 2000, 4000), 3
LARGE = 10_000
RUN = """
import json, multiprocessing, os, resource, sys, time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import scipy.linalg
import torch
from directions import find_components, open_bank

workers = sys.argv[2]
if workers != "alone":
    os.environ["OMP_NUM_THREADS"] = "1"  # of the workers, which inherit it: here it has been read

def started():
    if workers == "alone":
        return nullcontext()
    if workers == "processes":
        return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    from distributed import Client
    client = Client(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    return client.get_executor()

if __name__ == "__main__":
    torch.set_num_threads(2)
    bank = open_bank(Path(sys.argv[1]))
    with started() as executor:
        if executor:
            list(executor.map(abs, range(8)))  # they have started
            warm = bank.select(bank.seeds[:300])
            find_components(warm, 5, executor=executor)
        start = time.perf_counter()
        found = find_components(bank, 25, executor=executor)
        took = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": took, "GiB at most": peak, "first": found.spectrum[:3, 0].tolist()}))
"""


def run(folder: Path, workers: str, script: Path) -> dict:
    script.write_text(RUN)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, script, folder, workers], capture_output=True, text=True, check=True, cwd=root,
        env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def bank_of(tmp_path_factory):
    def write(n: int) -> Path:
        folder = tmp_path_factory.mktemp(f"{n}")
        write_bank(folder, n)
        return folder

    return write


@pytest.mark.parametrize("n", SIZES)
def test_overhead(bank_of, n, tmp_path):
    folder, rows = bank_of(n), []
    for _ in range(ROUNDS):
        each = {workers: run(folder, workers, tmp_path / "run.py") for workers in ("alone", "processes", "dask")}
        rows.append({workers: result["seconds"] for workers, result in each.items()})
        firsts = [result["first"] for result in each.values()]
        assert all(first == pytest.approx(firsts[0], rel=1e-10) for first in firsts)
        print(n, rows[-1], flush=True)
    overhead = {
        workers: sorted(row[workers] / row["alone"] - 1 for row in rows)[ROUNDS // 2]
        for workers in ("processes", "dask")
    }
    print(n, "overhead", overhead, flush=True)
    remember(RESULTS, "executors", known(RESULTS).get("executors", {}) | {n: {"seconds": rows, "overhead": overhead}})


@pytest.mark.parametrize("workers", ["processes", "dask"])
def test_memory_of_the_driver(bank_of, workers, tmp_path):
    result = run(bank_of(LARGE), workers, tmp_path / "run.py")
    print(result, flush=True)
    remember(RESULTS, f"10,000 trajectories, {workers}", result)
    assert result["GiB at most"] < 2
