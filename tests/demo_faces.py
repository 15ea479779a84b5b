"""The demo faces with a small bank: what the tests of the nodes around it share."""

import importlib
from collections.abc import Sequence
from contextlib import contextmanager
from types import SimpleNamespace

import torch
from models import sigmas


@contextmanager
def folder_of(key: str, folder):
    """ComfyUI's folder `key` is `folder` alone."""
    import folder_paths

    before = folder_paths.folder_names_and_paths.get(key)
    folder_paths.folder_names_and_paths[key] = ([str(folder)], {"folder"})
    try:
        yield folder
    finally:
        if before is None:
            del folder_paths.folder_names_and_paths[key]
        else:
            folder_paths.folder_names_and_paths[key] = before


def node_classes(pack) -> SimpleNamespace:
    """The node classes by their ids."""
    verbs = importlib.import_module(f"{pack.__name__}.nodes")
    rooms = verbs.capture, verbs.label, verbs.find, verbs.combine, verbs.library, verbs.inject
    return SimpleNamespace(**{node.__name__: node for room in rooms for node in room.NODES})


class DemoFaces:
    def __init__(self, pack):
        import comfy.samplers

        self.pack, self.nodes = pack, node_classes(pack)
        self.module("nodes.host.paths").register_folders()
        self.directions = self.module("directions")
        loaded = self.node("HSpaceLoadDDPM").execute("demo faces (built in)").result
        self.model, self.vae, self.empty, self.latent = loaded
        self.euler = comfy.samplers.sampler_object("euler")

    def node(self, id: str):
        """The node class of this id."""
        return getattr(self.nodes, id)

    def module(self, name: str):
        return importlib.import_module(f"{self.pack.__name__}.{name}")

    def sigmas(self, steps: int):
        return sigmas(self.model, steps)

    def bank(self, folder, count: int = 12, steps: int = 3):
        with folder_of("hspace_banks", folder):
            execute = self.node("HSpaceSampleBank").execute
            return execute(
                self.model, self.empty, self.empty, self.euler, self.sigmas(steps), self.latent, "faces", count, 100,
                8, 1.0, "positive",
            ).result[0]  # fmt: skip

    def scores(self, bank, columns: Sequence[str] = ("smile", "age"), seed: int = 0):
        """Random ones."""
        values = torch.randn(len(bank), len(columns), generator=torch.Generator().manual_seed(seed))
        return self.directions.Scores(tuple(columns), values, bank.seeds, bank.recipe, "chance")

    def direction(self, name: str, seed: int, scale: float = 0.5):
        """Random, another at each of three timesteps."""
        return self.directions.Direction(
            deltas={"middle": scale * torch.randn(3, 128, 8, 8, generator=torch.Generator().manual_seed(seed))},
            timesteps=torch.tensor([999.0, 500.0, 0.0]),
            name=name,
            method="random",
            unit="one",
            source=self.directions.Source("DDPM", "0", "positive", (64, 64)),
            recipe="{}",
        )
