"""What a real ComfyUI does while it is disturbed: prompts, the files they leave, and whether those are whole."""

from functools import cached_property
from pathlib import Path
from typing import Any

from directions import load_direction
from tools import prompts
from tools.comfyui import ROOT

WORK = ROOT / "output" / "faults"
BASE = WORK / "comfyui"
BANKS, DIRECTIONS = (BASE / "models" / name for name in ("hspace_banks", "hspace_directions"))

STEPS, BATCH, COUNT, ROUNDS = 4, 2, 24, 6
SAVED, STARTERS = 80, ("demo smile", "demo old")
"""Files that are saved, each first with one starter direction, then replaced by the other."""
Prompt = dict[str, dict[str, Any]]
Events = list[tuple[str, dict[str, Any]]]


FACES = prompts.faces("euler_ancestral", STEPS)
RUN = {**prompts.RUN, "branch": "positive", "batch_size": BATCH, "first_seed": 0}


def steps_done(events: Events, node: str) -> int:
    """Steps that are surely over: the one reported last may still be under way to the disk."""
    values = [data["value"] for event, data in events if event == "progress" and data["node"] == node]
    return int(max(values, default=1)) - 1


class Recording:
    """Sample Bank: a shard after each batch. Finished is what the progress bar has left behind."""

    name, pieces = "records a bank", COUNT // BATCH

    def prompt(self, name: str) -> Prompt:
        bank = {**RUN, "name": name, "count": COUNT}
        decode = {"samples": ["bank", 1], "vae": prompts.VAE}
        return prompts.prompt({
            **FACES,
            "bank": ("HSpaceSampleBank", bank), "decode": ("VAEDecode", decode),
            "show": ("PreviewImage", {"images": ["decode", 0]}),
        })  # fmt: skip

    def files(self, name: str) -> list[Path]:
        folders = BANKS.glob(f"{name}-*")
        return sorted(path for folder in folders for path in folder.iterdir() if path.name != ".lock")

    def finished(self, events: Events) -> int:
        return steps_done(events, "bank") // STEPS

    @cached_property
    def reference(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.files("undisturbed")}

    def whole(self, paths: list[Path]) -> int:
        """How many pieces these files hold. `ValueError` if one is not as the undisturbed run's."""
        for path in paths:
            if path.read_bytes() != self.reference.get(path.name):
                raise ValueError(f"{path.name} is not that of the undisturbed run")
        return len(paths)


class Learning:
    """Learn Direction: its state after each round."""

    name, pieces = "learns a direction", ROUNDS

    def prompt(self, name: str, rounds: int = ROUNDS) -> Prompt:
        learn = {
            **RUN, "vae": prompts.VAE, "objective": ["objective", 0], "name": f"learn {name}", "span": "constant",
            "count": 4, "rounds": rounds, "rate": 0.02, "keep": 1.0,
        }  # fmt: skip
        return prompts.prompt({
            **FACES,
            "classifier": ("HSpaceLoadClassifier", {"classifier": "demo attributes (built in)"}),
            "objective": (
                "HSpaceSetObjective",
                {"kind": "classifier", "kind.classifier": ["classifier", 0], "kind.column": "smile", "kind.others": ""},
            ),
            "learn": ("HSpaceLearnDirection", learn), "show": ("PreviewImage", {"images": ["learn", 2]}),
        })  # fmt: skip

    def files(self, name: str) -> list[Path]:
        return sorted(path for folder in BANKS.glob(f"learn {name}-*") for path in folder.iterdir())

    def finished(self, events: Events) -> int:
        return max(0, (steps_done(events, "learn") - 4 // BATCH * STEPS) // STEPS)

    @cached_property
    def reference(self) -> list[bytes]:
        """The state after each number of rounds, each learnt in one go."""
        return [self.files(f"undisturbed {rounds}")[0].read_bytes() for rounds in range(1, ROUNDS + 1)]

    def whole(self, paths: list[Path]) -> int:
        if not paths:
            return 0
        if len(paths) > 1 or paths[0].read_bytes() not in self.reference:
            raise ValueError(f"{paths[0].name} is not a state of the undisturbed run")
        return self.reference.index(paths[0].read_bytes()) + 1


class Saving:
    """Save Direction, many times; all files are there before and are replaced."""

    name, pieces = "saves directions", SAVED

    def prompt(self, name: str, starter: int = 1) -> Prompt:
        load = {"one": ("HSpaceLoadDirection", {"direction": f"{STARTERS[starter]}.safetensors"})}
        save = {"direction": ["one", 0], "replace": True, "author": ""}
        return prompts.prompt(
            load | {f"{i}": ("HSpaceSaveDirection", {**save, "name": f"{name}/d{i}"}) for i in range(SAVED)}
        )

    def files(self, name: str) -> list[Path]:
        folder = DIRECTIONS / name
        return sorted(folder.iterdir()) if folder.exists() else []

    def finished(self, events: Events) -> int:
        return sum(event == "executed" and data["node"].isdigit() for event, data in events)

    @cached_property
    def reference(self) -> list:
        return [load_direction(ROOT / "demo" / "directions" / f"{name}.safetensors") for name in STARTERS]

    def whole(self, paths: list[Path]) -> int:
        """How many hold the new direction. All must be there, whole: the new one or the old one."""
        if len(paths) != SAVED:
            raise ValueError(f"{SAVED - len(paths)} files are gone")
        return [self._which(path) for path in paths].count(1)

    def _which(self, path: Path) -> int:
        saved = load_direction(path)
        for number, starter in enumerate(self.reference):
            if saved == starter.renamed(path.stem):
                return number
        raise ValueError(f"{path.name} holds neither direction")


ACTIVITIES = (Recording(), Learning(), Saving())
