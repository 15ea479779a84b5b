"""Make the starter directions in demo/directions, through the real ComfyUI: `python -m tools.starters`.

Which component is which was read off docs/semantics.md, which is measured on the same bank.
"""

import shutil
import tempfile
from pathlib import Path

from tools.comfyui import ROOT
from tools.server import Server

STARTERS = {"demo pose": 3, "demo age": 2, "demo hair length": 6, "demo background": 1}
"""Number of the component by the name of its file."""
FLIPPED: set[str] = set()
"""Those whose positive end is the component's negative one."""


def prompt() -> dict[str, dict]:
    """Bank, components and one Save Direction for each starter, as ComfyUI's API takes it."""
    nodes = {
        "load": ("HSpaceLoadDDPM", {"model": "demo faces (built in)"}),
        "sampler": ("KSamplerSelect", {"sampler_name": "euler_ancestral"}),
        "sigmas": ("BasicScheduler", {"model": ["load", 0], "scheduler": "normal", "steps": 10, "denoise": 1.0}),
        "bank": (
            "HSpaceSampleBank",
            {
                "model": ["load", 0],
                "positive": ["load", 2],
                "negative": ["load", 2],
                "sampler": ["sampler", 0],
                "sigmas": ["sigmas", 0],
                "latent": ["load", 3],
                "name": "demo faces",
                "count": 300,
                "first_seed": 0,
                "batch_size": 32,
                "cfg": 1.0,
                "branch": "positive",
            },
        ),
        "find": ("HSpaceFindPCA", {"bank": ["bank", 0], "components": 10, "span": "each timestep"}),
    }
    for name, number in STARTERS.items():
        pick = {"directions": ["find", 0], "number": number, "name": name, "flip": name in FLIPPED}
        save = {"direction": [f"pick {name}", 0], "name": name, "replace": True}
        nodes |= {f"pick {name}": ("HSpacePickDirection", pick), f"save {name}": ("HSpaceSaveDirection", save)}
    return {id: {"class_type": kind, "inputs": inputs, "_meta": {"title": id}} for id, (kind, inputs) in nodes.items()}


def main() -> None:
    folder = ROOT / "demo" / "directions"
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as base:
        with Server(Path(base) / "output", base=Path(base)) as server:
            server.queue(prompt(), workflow={})
        for name in STARTERS:
            path = Path(base) / "models" / "hspace_directions" / f"{name}.safetensors"
            shutil.copy(path, folder)
            print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
