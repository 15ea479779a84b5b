"""Make the starter directions in demo/directions, through the real ComfyUI: `python -m tools.starters`.

Which component is which was read off docs/semantics.md, which is measured on the same bank. The supervised ones are
found from the scores that the demo classifier gives its pictures.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from tools.comfyui import ROOT
from tools.server import Server

STARTERS = {"demo pose": 3, "demo age": 2, "demo hair length": 6, "demo background": 1}
"""Number of the component by the name of its file."""
FLIPPED: set[str] = set()
"""Those whose positive end is the component's negative one."""
SUPERVISED = {"demo smile": "smile", "demo old": "age", "demo glasses": "glasses", "demo beard": "beard"}
"""Column of the demo classifier by the name of its file."""
HELD_STILL = ("smile", "age", "glasses", "beard", "hair_length", "skin", "background")
"""Columns that an edit must leave alone, but its own."""

THUMBNAIL_SEED, AUTHOR = 1, "h-space Directions"


def prompt() -> dict[str, dict]:
    """Bank, components, scores and one Save Direction for each starter, as ComfyUI's API takes it."""
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
        "classifier": ("HSpaceLoadClassifier", {"classifier": "demo attributes (built in)"}),
        "scores": (
            "HSpaceScoreClassifier",
            {"bank": ["bank", 0], "vae": ["load", 1], "classifier": ["classifier", 0], "batch_size": 16},
        ),
    }
    for name, number in STARTERS.items():
        pick = {"directions": ["find", 0], "number": number, "name": name, "flip": name in FLIPPED}
        nodes |= {f"pick {name}": ("HSpacePickDirection", pick), **kept(f"pick {name}", name)}
    for name, column in SUPERVISED.items():
        find = {
            "bank": ["bank", 0],
            "scores": ["scores", 0],
            "column": column,
            "method": "regression",
            "examples": 60,
            "others": ", ".join(other for other in HELD_STILL if other != column),
            "ridge": 0.01,
            "name": name,
        }
        nodes |= {f"find {name}": ("HSpaceFindFromScores", find), **kept(f"find {name}", name)}
    return {id: {"class_type": kind, "inputs": inputs, "_meta": {"title": id}} for id, (kind, inputs) in nodes.items()}


def kept(origin: str, name: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """A direction's sweep over one face, and its file with that as its thumbnail."""
    sweep = {
        **{
            key: ["load", slot]
            for key, slot in (("model", 0), ("positive", 2), ("negative", 2), ("latent", 3), ("vae", 1))
        },
        "sampler": ["sampler", 0],
        "sigmas": ["sigmas", 0],
        "direction": [origin, 0],
        "strengths": "-1.5, -0.75, 0, 0.75, 1.5",
        "rows": 1,
        "first_seed": THUMBNAIL_SEED,
        "batch_size": 5,
        "cfg": 1.0,
        "picture_size": 64,
        "start_percent": 0.0,
        "end_percent": 1.0,
        "apply_to": "both",
        "fit": "resize",
    }
    save = {
        "direction": [origin, 0],
        "name": name,
        "replace": True,
        "thumbnail": [f"sweep {name}", 2],
        "author": AUTHOR,
    }
    return {f"sweep {name}": ("HSpaceSweep", sweep), f"save {name}": ("HSpaceSaveDirection", save)}


def main() -> None:
    folder = ROOT / "demo" / "directions"
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as base:
        with Server(Path(base) / "output", base=Path(base)) as server:
            server.queue(prompt(), workflow={})
        for name in (*STARTERS, *SUPERVISED):
            path = Path(base) / "models" / "hspace_directions" / f"{name}.safetensors"
            shutil.copy(path, folder)
            print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
