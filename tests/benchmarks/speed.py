"""The speed table, docs/benchmarks.md: every figure a ratio of two things measured in turn, in one run.

    make bench        (three quarters of an hour on two cores; UNets with random weights, float32)

Parts are written to docs/benchmarks.json as they are known. PCA comes from scale.py, the Jacobian from jacobian.py.
"""

import gc
import importlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from demo_model import ROOT, DemoModel
from models import FULL, SDXL, conditioning, sd15
from results import known, remember
from tiny_transformers import transformer

pytestmark = pytest.mark.comfy

RESULTS = ROOT / "docs" / "benchmarks.json"
SIZES = {"SD 1.5, 256 px": (FULL, 32, 768, 15), "SDXL, 512 px": (SDXL, 64, 2048, 7)}
"""Layout, side of the latent, width of the prompt's embedding, and pairs."""


def in_turn(works: dict[str, Callable[[], object]], pairs: int) -> dict[str, list[float]]:
    """Seconds of each, measured one after the other, `pairs` times, after a first time that does not count."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(pairs + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if turn:
                times[name].append(time.perf_counter() - start)
    return times


def ratio(times: dict[str, list[float]], of: str, to: str) -> dict:
    """Median and quartiles of how much longer one takes than the other."""
    ratios = [a / b for a, b in zip(times[of], times[to], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"ratio": middle, "quartiles": [low, high], "pairs": len(ratios), "seconds": statistics.median(times[to])}


@pytest.mark.parametrize("size", SIZES)
def test_a_step_with_an_injection_and_with_recording(pack, size):
    layout, side, width, pairs = SIZES[size]
    host = importlib.import_module(f"{pack.__name__}.nodes.host")
    model = sd15(layout)
    calls: list[int] = []
    model.set_model_unet_function_wrapper(
        lambda apply, args: calls.append(1) or apply(args["input"], args["timestep"], **args["c"])
    )
    latent = torch.randn(1, 4, side, side)
    levels = host.chosen_sites(model, ["auto"])
    watched, recorder = host.record(model, "positive", levels)
    step(watched, latent, width)
    shapes = {site: tuple(h.shape[2:]) for site, h in recorder.trajectory()[1].items()}
    calls.clear()
    at_middle = {"middle": shapes["middle"]}
    variants = {
        "plain": model,
        "injecting": host.inject(model, random_direction(pack, at_middle), [1.0]),
        "recording": host.record(model, "positive")[0],
        f"injecting at {len(levels)} levels": host.inject(model, random_direction(pack, shapes), [1.0]),
        f"recording at {len(levels)} levels": host.record(model, "positive", levels, kept=host.pooled_to(host.GRID))[0],
        f"recording at {len(levels)} levels, whole maps": host.record(model, "positive", levels)[0],
    }
    times = in_turn({name: lambda m=each: step(m, latent, width) for name, each in variants.items()}, pairs)
    assert len(calls) == len(variants) * (pairs + 1)  # no UNet call more than plain sampling makes
    for name in list(variants)[1:]:
        report(f"{name}, {size}", ratio(times, name, "plain"))
    del model, variants
    gc.collect()


def test_a_step_of_a_transformer(pack):
    """A double and a single block of Flux 1 at its width: what an edit at both adds is compared with these two alone,
    not with 57."""
    host = importlib.import_module(f"{pack.__name__}.nodes.host")
    model = transformer("Flux", **FLUX)
    latent, sites = torch.randn(1, 16, 64, 64), ["double.0", "double.0.text", "single.0"]
    shapes = {"means": (3072, 1, 1), "maps": (3072, 16, 16)}
    found = {
        name: random_direction(
            pack, {site: (3072, 1, 1) if site.endswith("text") else shape for site in sites}, family="Flux"
        )
        for name, shape in shapes.items()
    }
    variants = {"plain": model} | {
        f"injecting {name}": host.inject(model, each, [1.0]) for name, each in found.items()
    } | {"recording": host.record(model, "positive", sites, kept=host.pooled_to(host.GRID))[0]}  # fmt: skip
    times = in_turn({name: lambda m=each: flow_step(m, latent) for name, each in variants.items()}, 7)
    for name in list(variants)[1:]:
        report(f"{name} at a block pair of Flux, 512 px", ratio(times, name, "plain"))


FLUX = {
    "hidden_size": 3072, "num_heads": 24, "axes_dim": [16, 56, 56], "theta": 10000, "mlp_ratio": 4.0, "depth": 1,
    "depth_single_blocks": 1, "context_in_dim": 64, "vec_in_dim": 24,
}  # fmt: skip


def flow_step(model, latent) -> None:
    """One sampling step at cfg 1 with 256 tokens of text."""
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model)
    said = [[torch.randn(1, 256, 64), {"pooled_output": torch.zeros(1, 24)}]]
    guider.set_conds(said, said)
    guider.set_cfg(1.0)
    euler = comfy.samplers.sampler_object("euler")
    guider.sample(torch.randn_like(latent), torch.zeros_like(latent), euler, torch.tensor([0.9, 0.0]), seed=0,
                  disable_pbar=True)  # fmt: skip


def random_direction(pack, shapes: Mapping[str, tuple[int, int, int]], steps: int = 20, family: str = "SD15"):
    directions = importlib.import_module(f"{pack.__name__}.directions")
    return directions.Direction(
        deltas={site: torch.randn(steps, *shape) for site, shape in shapes.items()},
        timesteps=torch.linspace(999, 0, steps), name="d", method="random", unit="one", recipe="{}",
        source=directions.Source(family, "0", "positive", (256, 256)),
    )  # fmt: skip


def step(model, latent, width: int) -> None:
    """One sampling step at cfg 7."""
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(conditioning(1, width), conditioning(2, width))
    guider.set_cfg(7.0)
    euler = comfy.samplers.sampler_object("euler")
    guider.sample(torch.randn_like(latent), torch.zeros_like(latent), euler, torch.tensor([5.0, 0.0]), seed=0,
                  disable_pbar=True)  # fmt: skip


def test_a_sweep_in_one_batch_and_one_by_one(pack, tmp_path):
    demo = DemoModel(pack, tmp_path)
    sweep = demo.node("HSpaceSweep")
    direction = demo.direction("d", 0)

    def run(batch_size: int) -> None:
        settings = demo.settings
        sweep.execute(
            demo.model, settings["positive"], settings["negative"], settings["sampler"], settings["sigmas"],
            demo.latent, demo.vae, direction, "-3, -2, -1, 0, 1, 2, 3", 4, 0, batch_size, 1.0, 64, 0.0, 1.0, "both",
            "resize",
        )  # fmt: skip

    times = in_turn({"in batches of 28": lambda: run(28), "one by one": lambda: run(1)}, 5)
    report("sweep of 28 pictures in one batch, to one by one", ratio(times, "in batches of 28", "one by one"))


IMPORT = """
import sys, time
sys.path[:0] = {paths!r}
import conftest, nodes, server, comfy_extras.nodes_custom_sampler  # what ComfyUI has loaded when it comes to the pack
import asyncio, importlib.util
start = time.perf_counter()
spec = importlib.util.spec_from_file_location("pack", {root!r} + "/__init__.py", submodule_search_locations=[{root!r}])
module = importlib.util.module_from_spec(spec)
sys.modules["pack"] = module
before = set(sys.modules)
spec.loader.exec_module(module)
async def load():
    extension = await module.comfy_entrypoint()
    await extension.on_load()
    return [node.GET_SCHEMA() for node in await extension.get_node_list()]
asyncio.run(load())
print(time.perf_counter() - start, *sorted({{name.split(".")[0] for name in set(sys.modules) - before}} - {{"pack"}}))
"""


def test_import_into_comfyui():
    script = IMPORT.format(paths=[str(ROOT / "tests"), str(ROOT)], root=str(ROOT))
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(5)
    ]
    seconds = sorted(float(run[0]) for run in runs)
    report("import", {"seconds": seconds[2], "from": seconds[0], "to": seconds[-1], "brings": runs[0][1:]})


def test_files_of_directions(pack, tmp_path):
    directions = importlib.import_module(f"{pack.__name__}.directions")
    for size, side in (("SD 1.5, 512 px, 20 timesteps", 8), ("SDXL, 1024 px, 20 timesteps", 32)):
        path = tmp_path / "d.safetensors"
        direction = random_direction(pack, {"middle": (1280, side, side)})
        directions.save_direction(direction, path)
        loading = in_turn({"load": lambda path=path: directions.load_direction(path)}, 5)["load"]
        report(f"file, {size}", {"MB": path.stat().st_size / 1e6, "seconds to load": statistics.median(loading)})


def report(what: str, result: dict) -> None:
    print(f"\n{what}: {result}", flush=True)
    remember(RESULTS, what, result)


def test_table():
    """docs/benchmarks.md, of what is known so far."""
    found, scale = known(RESULTS), known(ROOT / "docs" / "scale.json")
    lines = [row(what, each["ratio"], each["quartiles"], f"{each['pairs']} pairs") for what, each in found.items()
             if "ratio" in each]  # fmt: skip
    if "against IncrementalPCA" in scale:
        against = scale["against IncrementalPCA"]["seconds"]
        ratios = sorted(theirs / ours for ours, theirs, _ in against)
        lines.append(row("IncrementalPCA to ours (n 1000, d 81,920, k 25)", ratios[len(ratios) // 2],
                         [ratios[0], ratios[-1]], f"{len(ratios)} pairs, lowest and highest"))  # fmt: skip
    for each in known(ROOT / "docs" / "jacobian.json").get("speed", []):
        what = f"the authors' power iteration, written anew, to ours, Jacobian, k = {each['k']}"
        lines.append(row(what, each["times faster"], each["lowest and highest"], "5 pairs, lowest and highest"))
    others = [sentence(what, each) for what, each in found.items() if "ratio" not in each]
    text = (ROOT / "docs" / "benchmarks.head.md").read_text()
    table = "| what | times | quartiles | of |\n|---|---|---|---|\n" + "\n".join(lines)
    Path(ROOT / "docs" / "benchmarks.md").write_text(f"{text}\n{table}\n\n" + "\n".join(others) + "\n")


def row(what: str, middle: float, spread: list[float], of: str) -> str:
    return f"| {what} | {middle:.3g} | {spread[0]:.3g} to {spread[1]:.3g} | {of} |"


def sentence(what: str, each: dict) -> str:
    if what == "import":
        return (
            f"* Importing the pack into ComfyUI: {each['seconds']:.2g} s ({each['from']:.2g} to {each['to']:.2g} in "
            f"five runs); libraries that were not there yet: {', '.join(each['brings'])}."
        )
    return f"* A direction {what}: {each['MB']:.3g} MB, loaded in {each['seconds to load']:.1g} s."
