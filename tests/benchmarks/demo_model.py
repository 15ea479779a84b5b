"""The demo model with its bank, its judge and edited samples: what the benchmarks share."""

import importlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from models import sigmas

ROOT = Path(__file__).parents[2]
STEPS, BATCH = 10, 50


class DemoModel:
    def __init__(self, pack, banks: Path):
        import comfy.samplers
        import folder_paths

        self.load, self.record, self.unet, self.sampling, self.classifier, folders = (
            importlib.import_module(f"{pack.__name__}.nodes.{name}")
            for name in ("load", "record", "unet", "sampling", "classifier", "folders")
        )
        self.directions = importlib.import_module(f"{pack.__name__}.directions")
        folders.register_folders()
        folder_paths.folder_names_and_paths["hspace_banks"] = ([str(banks)], {"folder"})
        self.model, self.vae, self.empty, self.latent = self.load.HSpaceLoadDDPM.execute(self.load.DEMO).result
        self.judge = self.classifier.load_demo()
        self.sampler = comfy.samplers.sampler_object

    @cached_property
    def settings(self) -> dict:
        """The reference's: eta 1 and ten steps."""
        return dict(
            positive=self.empty, negative=self.empty, cfg=1.0, sampler=self.sampler("euler_ancestral"),
            sigmas=sigmas(self.model, STEPS),
        )  # fmt: skip

    def bank(self, count: int, first_seed: int = 0):
        (bank,) = self.record.record_banks(
            self.model, {"benchmark": self.settings}, latent=self.latent,
            seeds=range(first_seed, first_seed + count), batch_size=BATCH, branch="positive",
        )  # fmt: skip
        return bank

    def scores_of(self, bank):
        values = torch.cat([self.judge.scores(self.images(part)) for part in bank.latents().split(BATCH)])
        return self.directions.Scores(self.judge.columns, values, bank.seeds, bank.recipe, "demo classifier")

    def images(self, latents: torch.Tensor) -> torch.Tensor:
        return (latents.movedim(1, -1) + 1) / 2

    def latents(self, seeds: Sequence[int], edits: Sequence[tuple[object, float]] = ()) -> torch.Tensor:
        """Finished pictures `(n, 3, 64, 64)` of `seeds` with each direction injected at its strength."""
        model = self.model
        for direction, strength in edits:
            model = self.unet.inject(model, direction, [strength])
        parts = [seeds[first : first + BATCH] for first in range(0, len(seeds), BATCH)]
        return torch.cat(
            [
                self.sampling.sample(model, **self.settings, latent=self.latent, seeds=part, on_step=lambda x0: None)
                for part in parts
            ]
        )

    def scores(self, seeds: Sequence[int], edits: Sequence[tuple[object, float]] = ()) -> torch.Tensor:
        """The judge's scores `(n, 10)`."""
        return self.judge.scores(self.images(self.latents(seeds, edits)))
