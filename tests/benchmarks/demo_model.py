"""The demo model with its bank, its judge and edited samples: what the benchmarks share."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from demo_faces import DemoFaces, folder_of

ROOT = Path(__file__).parents[2]
STEPS, BATCH = 10, 50


class DemoModel(DemoFaces):
    def __init__(self, pack, banks: Path):
        super().__init__(pack)
        self.model.model.to(memory_format=torch.channels_last)  # a fifth faster on a CPU
        self.banks = banks
        self.judge = self.module("nodes.host.classifier").load_classifier("demo attributes (built in)")

    @cached_property
    def settings(self) -> dict:
        """The reference's: eta 1 and ten steps."""
        import comfy.samplers

        sampler = comfy.samplers.sampler_object("euler_ancestral")
        return dict(positive=self.empty, negative=self.empty, cfg=1.0, sampler=sampler, sigmas=self.sigmas(STEPS))

    def recorded(self, count: int):
        """A bank of the first `count` seeds."""
        with folder_of("hspace_banks", self.banks):
            (bank,) = self.module("nodes.host.bank_recording").record_banks(
                self.model, {"benchmark": self.settings}, latent=self.latent, seeds=range(count), batch_size=BATCH,
                branch="positive",
            )  # fmt: skip
        return bank

    def scores_of(self, bank):
        values = torch.cat([self.judge.scores(self.images(part)) for part in bank.latents().split(BATCH)])
        return self.directions.Scores(self.judge.columns, values, bank.seeds, bank.recipe, "demo classifier")

    def images(self, latents: torch.Tensor) -> torch.Tensor:
        return (latents.movedim(1, -1) + 1) / 2

    def latents(self, seeds: Sequence[int], edits: Sequence[tuple[object, float]] = (), **changed) -> torch.Tensor:
        """Finished pictures `(n, 3, 64, 64)` of `seeds` with each direction injected at its strength."""
        model, sample = self.model, self.module("nodes.host.sampling").sample
        for direction, strength in edits:
            model = self.module("nodes.host").inject(model, direction, [strength])
        parts = [seeds[first : first + BATCH] for first in range(0, len(seeds), BATCH)]
        settings = self.settings | changed
        return torch.cat(
            [sample(model, **settings, latent=self.latent, seeds=part, on_step=lambda x0: None) for part in parts]
        )

    def scores(self, seeds: Sequence[int], edits: Sequence[tuple[object, float]] = (), **changed) -> torch.Tensor:
        """The judge's scores `(n, 10)` of them; `changed` settings take the place of the reference's."""
        return self.judge.scores(self.images(self.latents(seeds, edits, **changed)))
