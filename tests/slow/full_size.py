"""Every part of the pack on models of full size: random weights in the layouts of Stable Diffusion and its kin, CPU.

    python -m pytest -s tests/slow/full_size.py                        (all of it; SDXL in float32 needs 15 GB free)
    python -m pytest -s tests/slow/full_size.py -k "SDXL-float16"      (one model)

Each model is written to a file, loaded by core's CheckpointLoaderSimple and taken through the pack's nodes in a
process of its own, which notes seconds and peak memory after each. Stopped, the command goes on with the model it was
at; remove a model from docs/full_size.json to measure it again. docs/full_size.md is made from that. Linux only: memory
is read in /proc.
"""

import importlib.util
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path += [str(ROOT / "tests"), str(ROOT / "tests" / "benchmarks")]
    import conftest

from demo_faces import node_classes  # noqa: E402, the path comes first
from models import core_sample, sigmas  # noqa: E402
from results import known, remember  # noqa: E402
from slow.checkpoints import LAYOUTS, unet_parameters, write_checkpoint  # noqa: E402

pytestmark = pytest.mark.comfy

RESULTS, TABLE = ROOT / "docs" / "full_size.json", ROOT / "docs" / "full_size.md"

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
CASES = [
    ("SD 1.5", "float32"), ("SD 1.5", "float16"), ("SD 1.5", "bfloat16"), ("SDXL", "float16"), ("SDXL", "bfloat16"),
    ("SD 2 v-prediction", "float16"), ("SSD-1B", "float16"), ("SDXL refiner", "float16"), ("SDXL", "float32"),
]  # fmt: skip
"""In this order: the one that needs most memory comes last."""

PIXELS, STEPS, CFG, SEED = 256, 2, 1.0, 0
BOUND = 1e-4
"""Largest difference of an inverted picture's latent, as everywhere in this pack: tests/nodes/test_invert_image.py."""
ERROR = "largest error after inversion"
SPARE = 4e9
"""Bytes of memory that must be free beside the weights."""

PARTS = {
    "load": "load",
    "Sample Bank": "Sample Bank, 2 pictures",
    "Find Directions (PCA)": "PCA",
    "Inject Direction": "Inject, 2 pictures",
    "Find Direction (Prompts)": "slider, 2 pairs",
    "Learn Direction (Words)": "learn, a round of 2",
    "Find Directions (Jacobian)": "Jacobian, k = 1",
    "Sweep Directions": "Sweep, 3 pictures",
    "Invert Image": "Invert, sample twice",
}
"""What is measured, and what the table calls it."""


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "dtype"), CASES, ids=lambda value: value)
def test_every_part_works_at_full_size(layout, dtype):
    if measured(known(RESULTS), layout, dtype):
        pytest.skip(f"measured before, in {RESULTS.name}")
    needed, free = unet_parameters(layout) * DTYPES[dtype].itemsize + SPARE, psutil.virtual_memory().available
    if free < needed:
        pytest.skip(f"needs {needed / 1e9:.0f} GB of free memory, {free / 1e9:.0f} GB are: end other programs")
    child = subprocess.run([sys.executable, __file__, layout, dtype], timeout=7200)
    assert child.returncode == 0


def test_the_table_is_made_of_the_figures():
    TABLE.write_text(page(known(RESULTS)))


class EveryPart:
    """One model and what is made with it, part by part."""

    picture = PIXELS
    """Side of what the VAE makes."""

    def __init__(self, pack, case: str, results: Path, *, width: int, pooled: bool):
        self.pack, self.case, self.results = pack, case, results
        self.node = lambda name: getattr(node_classes(pack), name).execute
        self.figures: dict = {"pixels": PIXELS, "steps": STEPS}
        self.positive, self.negative, self.opposite = (prompt(seed, width, pooled) for seed in (1, 2, 3))
        self.latent = {"samples": torch.zeros(1, 4, PIXELS // 8, PIXELS // 8)}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Notes seconds and peak memory of what is inside."""
        with measured_memory() as peak:
            started = time.perf_counter()
            yield
            seconds = time.perf_counter() - started
        self.figures[name] = {"seconds": seconds, **peak}
        print(f"{self.case}, {name}: {self.figures[name]}", flush=True)
        remember(self.results, self.case, self.figures)

    def run(self) -> None:
        with torch.inference_mode():  # as ComfyUI runs its nodes
            self.load()
            self.record()
            self.find_components()
            self.inject()
            self.find_slider()
            self.learn()
            self.find_jacobian()
            self.sweep()
            self.invert()

    def load(self) -> None:
        """MODEL, VAE and sigmas."""
        raise NotImplementedError

    @property
    def run_settings(self) -> tuple:
        import comfy.samplers

        return comfy.samplers.sampler_object("euler"), self.sigmas, self.latent

    @property
    def settings(self) -> dict:
        names = "sampler", "sigmas", "latent"
        run = dict(zip(names, self.run_settings, strict=True))
        return {"positive": self.positive, "negative": self.negative, "cfg": CFG} | run

    def sampled(self, model):
        """The picture of the first seed, by core's SamplerCustom."""
        run = self.positive, self.negative, self.latent
        return core_sample(model, "euler", self.sigmas, *run, seed=SEED, cfg=CFG)

    def record(self) -> None:
        with self.part("Sample Bank"):
            self.bank, *_ = self.node("HSpaceSampleBank")(
                self.model, **self.settings, name="full size", count=2, first_seed=SEED, batch_size=1, branch="positive"
            ).result
        self.plain = self.bank.latents()[:1]
        assert self.plain.isfinite().all() and self.plain.std() > 0.1
        self.figures["sites"] = {site: list(shape) for site, shape in self.bank.shapes.items()}

    def find_components(self) -> None:
        with self.part("Find Directions (PCA)"):
            (found,) = self.node("HSpaceFindPCA")(self.bank, 1, "each timestep").result
            (self.direction,) = self.node("HSpacePickDirection")(found, 1, "first", False).result
        assert self.direction.deltas["middle"].isfinite().all() and self.direction.deltas["middle"].norm() > 0

    def injected(self, direction, strength: float):
        (model,) = self.node("HSpaceInject")(self.model, direction, strength, 0.0, 1.0, "both", "resize").result
        return model

    def inject(self) -> None:
        with self.part("Inject Direction"):
            off, on = (self.sampled(self.injected(self.direction, strength)) for strength in (0.0, 1.0))
        assert torch.equal(off, self.plain)
        assert on.isfinite().all() and not torch.allclose(on, off, atol=1e-3)
        self.figures["change at strength 1"] = float((on - off).std() / off.std())
        source = replace(self.direction.source, family="SDXL" if self.figures["family"] != "SDXL" else "SD15")
        with pytest.raises(ValueError, match="was found in another kind of model"):
            self.injected(replace(self.direction, source=source), 1.0)

    def find_slider(self) -> None:
        """From two pairs, and what strength 1 of it is."""
        with self.part("Find Direction (Prompts)"):
            slider, *_ = self.node("HSpaceFindFromPrompts")(
                self.model, self.positive, self.opposite, self.negative, *self.run_settings, name="full size", count=2,
                first_seed=SEED, batch_size=1, cfg=CFG, branch="positive",
            ).result  # fmt: skip
        assert set(slider.sites) == set(self.bank.shapes)
        on = self.sampled(self.injected(slider, 1.0))
        assert on.isfinite().all() and not torch.allclose(on, self.plain, atol=1e-3)

    def learn(self) -> None:
        """One round by least squares at every level, from two pictures."""
        host = importlib.import_module(f"{self.pack.__name__}.nodes.host")
        sampler, schedule, latent = self.run_settings
        trainer = host.SliderTrainer(
            self.model, lambda number: (self.negative, self.positive, self.opposite), self.negative,
            dict(sampler=sampler, sigmas=schedule, latent=latent), CFG, SEED, 2, 1, tuple(self.bank.shapes),
        )  # fmt: skip
        with self.part("Learn Direction (Words)"):
            learnt = trainer.started({}, Path())
            trainer.train_round(learnt)
        assert all(row.isfinite().all() and row.any() for row in learnt.rows)

    def find_jacobian(self) -> None:
        settings = self.settings
        with self.part("Find Directions (Jacobian)"):
            found, latent, info = self.node("HSpaceFindJacobian")(
                self.model, **settings, seed=SEED, percents="0.5", count=1, protect_outside=0, branch="positive"
            ).result
        assert torch.equal(latent["samples"], self.plain)
        self.figures["Jacobian"] = info
        on = self.sampled(self.injected(found[0], 1.0))
        assert on.isfinite().all() and not torch.allclose(on, self.plain, atol=1e-3)
        self.figures["change at the Jacobian's strength 1"] = float((on - self.plain).std() / self.plain.std())

    def sweep(self) -> None:
        with self.part("Sweep Directions"):
            _, pictures, *_ = self.node("HSpaceSweep")(
                self.model, **self.settings, vae=self.vae, direction=self.direction, strengths="-1, 0, 1", rows=1,
                first_seed=SEED, batch_size=1, picture_size=128, start_percent=0.0, end_percent=1.0, apply_to="both",
                fit="resize",
            ).result  # fmt: skip
        assert pictures.shape == (3, self.picture, self.picture, 3) and pictures.isfinite().all()
        assert not torch.equal(pictures[0], pictures[1]) and not torch.equal(pictures[2], pictures[1])

    def invert(self) -> None:
        """A picture no model made: noise, smoothed."""
        draw = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7))
        picture = torch.nn.functional.interpolate(draw, size=self.latent["samples"].shape[2:], mode="bilinear")
        with self.part("Invert Image"):
            found = self.node("HSpaceInvertImage")(
                self.model, self.positive, self.negative, {"samples": picture}, self.sigmas, "edit-friendly DDPM", 0,
                SEED, "full size", 1, CFG, "positive",
            ).result  # fmt: skip
            back, edited = (self.replayed(self.injected(self.direction, strength), found) for strength in (0.0, 1.0))
        error = float((back - picture).abs().max())
        assert error < BOUND
        assert edited.isfinite().all() and not torch.allclose(edited, picture, atol=1e-3)
        self.figures[ERROR] = error
        remember(self.results, self.case, self.figures)

    def replayed(self, model, found):
        from comfy_extras.nodes_custom_sampler import CFGGuider, SamplerCustomAdvanced

        noise, latent, sampler, schedule = found[:4]
        guider = CFGGuider.execute(model, self.positive, self.negative, CFG).result[0]
        return SamplerCustomAdvanced.execute(noise, guider, sampler, schedule, latent).result[0]["samples"]


class FullSize(EveryPart):
    """By a checkpoint's file."""

    def __init__(self, pack, layout: str, dtype: str):
        settings = LAYOUTS[layout]
        pooled = settings["adm_in_channels"] is not None
        super().__init__(pack, f"{layout}, {dtype}", RESULTS, width=settings["context_dim"], pooled=pooled)
        self.layout, self.dtype = layout, dtype
        self.figures["parameters"] = unet_parameters(layout)

    def load(self) -> None:
        """MODEL and VAE by core's loader, in the weights' own dtype; in bfloat16 it computes in that, too."""
        import comfy.cli_args
        import folder_paths
        from comfy_extras.nodes_model_advanced import ModelComputeDtype

        from nodes import CheckpointLoaderSimple

        if self.dtype != "float32":  # as `--fp16-unet` and `--bf16-unet` do; on a CPU the default is float32
            setattr(comfy.cli_args.args, {"float16": "fp16_unet", "bfloat16": "bf16_unet"}[self.dtype], True)
        path = Path(folder_paths.get_folder_paths("checkpoints")[0], "full_size.safetensors")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(self.layout, DTYPES[self.dtype], path)
        with self.part("load"):
            self.model, _, self.vae, *_ = CheckpointLoaderSimple().load_checkpoint(path.name)
        path.unlink()
        if self.dtype == "bfloat16":
            (self.model,) = ModelComputeDtype().patch(self.model, "bf16")
        self.sigmas = sigmas(self.model, STEPS, "simple")
        base = self.model.model
        assert base.get_dtype() == DTYPES[self.dtype]
        assert (base.model_type.name == "V_PREDICTION") == (self.layout == "SD 2 v-prediction")
        self.figures |= {"family": type(base.model_config).__name__, "kind": base.model_type.name}


@contextmanager
def measured_memory() -> Iterator[dict[str, float]]:
    """The peak of what is inside in GiB, in the process on Linux and on the card where there is one; known then."""
    peak: dict[str, float] = {}
    process = Path("/proc/self")
    if process.exists():
        (process / "clear_refs").write_text("5")  # VmHWM starts again
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    yield peak
    if process.exists():
        kilobytes = re.search(r"VmHWM:\s+(\d+) kB", (process / "status").read_text()).group(1)
        peak["peak, GiB"] = int(kilobytes) / 2**20
    if torch.cuda.is_available():
        peak["peak on the card, GiB"] = torch.cuda.max_memory_allocated() / 2**30


def prompt(seed: int, width: int, pooled: bool) -> list:
    """A prompt's embedding, random, and for SDXL's kin the pooled one."""
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(1, 77, width, generator=generator)
    return [[embedding, {"pooled_output": torch.randn(1, 1280, generator=generator)} if pooled else {}]]


def page(results: dict) -> str:
    """The figures as Markdown, models down and parts across: seconds and peak GiB."""
    rows = [["model", "weights", "family", "sites", *PARTS.values(), "singular vectors", ERROR]]
    rows.append(["---"] * len(rows[0]))
    for case, figures in sorted(results.items(), key=lambda entry: place(entry[0])):
        layout, _, dtype = case.rpartition(", ")
        sites = ", ".join(f"{site} {'x'.join(map(str, shape))}" for site, shape in figures.get("sites", {}).items())
        parts = [cell(figures.get(part)) for part in PARTS]
        error = f"{figures[ERROR]:.0e}" if ERROR in figures else ""
        found = figures.get("Jacobian", "").partition("; ")[2]
        name = f"{layout} ({figures['parameters'] / 1e9:.2f} billion)"
        rows.append([name, dtype, figures.get("family", ""), sites, *parts, found, error])
    missing = [f"{layout} {dtype}" for layout, dtype in CASES if not measured(results, layout, dtype)]
    note = f"\nNot measured to the end yet: {', '.join(missing)}.\n" if missing else ""
    return HEAD + "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n" + note


def measured(results: dict, layout: str, dtype: str) -> bool:
    """Whether it came to the end."""
    return {*PARTS, ERROR} <= set(results.get(f"{layout}, {dtype}", ()))


def place(case: str) -> tuple[int, int]:
    layout, _, dtype = case.rpartition(", ")
    return list(LAYOUTS).index(layout), list(DTYPES).index(dtype)


def cell(figures: dict | None) -> str:
    return "" if figures is None else f"{figures['seconds']:.0f} s, {figures['peak, GiB']:.1f}"


HEAD = f"""# At full size

Random weights in the exact layouts of Stable Diffusion and its kin, loaded by core's CheckpointLoaderSimple and taken
through the pack's nodes on two CPU cores: {PIXELS} pixels, {STEPS} steps of euler, cfg {CFG:g}. They show that each
part works at this size and in these dtypes and what it takes, and nothing about meaning. Made by
`python -m pytest -s tests/slow/full_size.py`; figures in full_size.json.

- **float16**: the weights lie in memory as `--fp16-unet` has them; ComfyUI computes with them in float32 on a CPU.
  **bfloat16**: `--bf16-unet`, and computed in bfloat16 too (core's ModelComputeDtype).
- For every model: all is finite; a picture of the bank is to the bit the one SamplerCustom makes at strength 0;
  strength 1 changes it; a direction of another family is refused; an inverted picture comes back to {BOUND:g} or less.
- Cells are seconds and peak memory in GiB, weights included. While it loads, the file's own pages count too: the system
  takes those back. Times are of one run on a machine with other work: take them as the order of size.
- Sites are *auto*: every level of the decoder, and for the Jacobian the first above the bottleneck. Their sizes are as
  a bank keeps them.

"""


def main() -> None:
    spec = importlib.util.spec_from_file_location(
        conftest.PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    pack = importlib.util.module_from_spec(spec)
    sys.modules[conftest.PACK] = pack
    spec.loader.exec_module(pack)
    importlib.import_module(f"{conftest.PACK}.nodes.host.paths").register_folders()
    FullSize(pack, *sys.argv[1:]).run()


if __name__ == "__main__":
    main()
