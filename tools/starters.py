"""Make the starter directions in demo/directions, through the real ComfyUI: `python -m tools.starters`.

Which component is which was read off docs/semantics.md, which is measured on the same bank. The supervised ones are
found from the scores that the demo classifier gives its pictures.
"""

import shutil
import tempfile
from pathlib import Path

from tools import prompts
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

THUMBNAIL_SEED, THUMBNAIL_STRENGTHS = 1, (-1.5, -0.75, 0, 0.75, 1.5)
AUTHOR = "h-space Directions"


def prompt() -> dict[str, dict]:
    """Bank, components, scores and one Save Direction for each starter, as ComfyUI's API takes it."""
    bank = {**prompts.RUN, "name": "demo faces", "count": 300, "first_seed": 0, "batch_size": 32, "branch": "positive"}
    nodes: prompts.Nodes = {
        **prompts.faces("euler_ancestral", 10),
        "bank": ("HSpaceSampleBank", bank),
        "find": ("HSpaceFindPCA", {"bank": ["bank", 0], "components": 10, "span": "each timestep"}),
        "classifier": ("HSpaceLoadClassifier", {"classifier": "demo attributes (built in)"}),
        "scores": (
            "HSpaceScorePictures",
            {
                "bank": ["bank", 0],
                "source": "classifier",
                "source.vae": prompts.VAE,
                "source.classifier": ["classifier", 0],
                "source.batch_size": 16,
            },
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
    return prompts.prompt(nodes)


def kept(origin: str, name: str) -> prompts.Nodes:
    """A direction's sweep over one face, and its file with that as its thumbnail."""
    save = {
        "direction": [origin, 0],
        "name": name,
        "replace": True,
        "thumbnail": [f"sweep {name}", 2],
        "author": AUTHOR,
    }
    return {
        f"sweep {name}": prompts.sweep(origin, THUMBNAIL_STRENGTHS, rows=1, first_seed=THUMBNAIL_SEED),
        f"save {name}": ("HSpaceSaveDirection", save),
    }


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
