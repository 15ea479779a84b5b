"""Readers against hostile files: some hundred mutants, and a few that try to fill the memory.

    FUZZ_INPUTS=100000 python -m pytest -s tests/robustness/test_fuzz.py

tries that many, as `make test-slow` does, and prints what came of them, how long the slowest took and how far the
memory grew.
"""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutants import PLACES, SIZES, VALUES, Reader, change_list, clear, mutant, mutant_text, place, readers

from directions import Learner, write_whole
from tools.comfyui import ROOT

INPUTS = int(os.environ.get("FUZZ_INPUTS", "400"))
SECONDS = 5.0
"""For one small file; a mutant takes about a millisecond."""
GROWTH = 64 << 20
"""Bytes that the process may grow by while it reads thousands of small files."""
MEMORY = 4 << 30
"""Bytes of addresses, ComfyUI included, which the first test that needs it loads."""
NAMES = ("direction", "bank", "scores in CSV", "scores in JSON")


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return readers(tmp_path_factory.mktemp("mutants"))


@pytest.fixture(autouse=True, scope="module")
def little_memory():
    """A reader that fills the memory gets an error, before the system ends the process."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@contextmanager
def in_time():
    def too_long(signum, frame):
        raise TimeoutError(f"a reader took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def peak() -> int:
    """Bytes of memory at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def try_many(target: Reader, count: int) -> None:
    accepted, slowest, before = 0, 0.0, peak()
    for number in range(count):
        started = time.perf_counter()
        with in_time():
            try:
                accepted += target.accepts(Random(number))  # noqa: S311, no secret
            except BaseException:
                print(f"\n{target.name}, Random({number})")
                raise
        slowest = max(slowest, time.perf_counter() - started)
    grown = peak() - before
    print(
        f"\n{target.name}: {count} inputs, {count - accepted} refused, {accepted} accepted, slowest "
        f"{1000 * slowest:.0f} ms, memory grew by {grown / 2**20:.1f} MiB to {peak() / 2**20:.0f} MiB"
    )
    assert grown < GROWTH
    assert 0 < accepted < count  # else the mutants are all nonsense, or all harmless


@pytest.mark.parametrize("name", NAMES)
def test_whole_files_are_accepted(reader, name):
    clear(reader[name].file)
    reader[name].file.write_bytes(reader[name].whole)
    assert not reader[name].refusal()


@pytest.mark.parametrize("name", NAMES)
@given(random=st.randoms(use_true_random=False))
@settings(max_examples=INPUTS // 8, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_mutant_is_a_valid_value_or_refused(reader, name, random):
    with in_time():
        reader[name].accepts(random)


@pytest.mark.parametrize("name", NAMES)
def test_many_mutants_are_valid_values_or_refused(reader, name):
    try_many(reader[name], INPUTS // len(NAMES))


@pytest.mark.parametrize("what", PLACES)
@pytest.mark.parametrize("name", NAMES)
def test_something_else_in_a_files_place_is_refused(reader, name, what):
    clear(reader[name].file)
    place(what, reader[name].file)
    with in_time():
        assert bool(reader[name].refusal()) != (name == "bank" and what == "nothing")  # the other shard is left
    clear(reader[name].file)


@pytest.fixture
def learner(pack, tmp_path):
    """The reader of what an interrupted run has learnt, which lives beside ComfyUI."""
    trainer = importlib.import_module(f"{pack.__name__}.nodes.host.trainer")
    learner = Learner((2, 2, 2), torch.ones(2), 0.1)
    for row in (0, 1):
        loss = learner.delta(row).square().sum()
        learner.step(row, learner.gradient(row, loss), float(loss))
    learner.losses += [0.5, 0.25]
    file = tmp_path / "learning.safetensors"
    write_whole(learner.state_dict(), file, {"recipe": "{}"})

    def read(path):
        found = trainer.start_learner((2, 2, 2), torch.ones(2), 0.1, trainer.read_checkpoint(path, 40), path)
        assert found.deltas().isfinite().all() and found.deltas().shape == (2, 2, 2, 2)

    return Reader("learner", file, file.read_bytes(), mutant, read)


@pytest.mark.comfy
def test_a_mutant_of_what_was_learnt_is_read_or_refused(learner):
    try_many(learner, INPUTS // 10)


@pytest.mark.comfy
def test_mutants_of_a_models_settings_are_read_or_refused(pack, tmp_path):
    files = importlib.import_module(f"{pack.__name__}.nodes.host.pixel_ddpm.files")
    settings = importlib.import_module(f"{pack.__name__}.nodes.host.pixel_ddpm.settings")
    config = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear", "num_train_timesteps": 1000}
    (tmp_path / "model").mkdir()

    def read(path):
        assert files.is_ddpm(path.parent) in (True, False)
        settings.DDPM(files.read_json(path))

    whole = json.dumps({"_class_name": "UNet2DModel", **config}).encode()
    try_many(Reader("settings", tmp_path / "model" / "config.json", whole, mutant_text, read), INPUTS // 10)


@pytest.mark.comfy
def test_mutants_of_a_models_config_are_read_or_refused(pack, tmp_path):
    """Built, but without weights that belong to it."""
    pixel_unet = importlib.import_module(f"{pack.__name__}.nodes.host.pixel_ddpm.unet")
    files = importlib.import_module(f"{pack.__name__}.nodes.host.pixel_ddpm.files")
    folder = ROOT / "demo" / "ddpm"
    weights = files.read_weights(folder / "diffusion_pytorch_model.safetensors")
    whole = (folder / "config.json").read_bytes()

    def lie(random, content):
        config = json.loads(content)
        for key in random.sample(sorted(config), random.choice((1, 1, 2))):
            config[key] = (
                change_list(random, config[key]) if isinstance(config[key], list) else random.choice((*VALUES, *SIZES))
            )
        return json.dumps(config).encode()

    read = Reader("config", tmp_path / "config.json", whole, lie,
                  lambda path: pixel_unet.build_pixel_unet(files.read_json(path), weights))  # fmt: skip
    try_many(read, INPUTS // 40)


HEAVY = Path(__file__).with_name("heavy.py")


def test_no_file_fills_the_memory(tmp_path):
    result = subprocess.run(
        [sys.executable, HEAVY, tmp_path], capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    print("\n" + result.stdout, end="")
    assert result.returncode == 0, result.stderr[-2000:]
