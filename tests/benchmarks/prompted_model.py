"""The demo faces that listen to words, with their judge: what the benchmarks of text-to-image share."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path

import torch
from demo_faces import folder_of, node_classes
from torch import Tensor

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / "demo"), str(ROOT / "demo" / "prompted")]

BATCH, STEPS, CFG = 32, 20, 3.0


class PromptedModel:
    """`kind` is a part of its name in the loader's list."""

    def __init__(self, pack, kind: str = "Stable Diffusion", scheduler: str = "normal"):
        self.pack, self.scheduler = pack, scheduler
        loader = node_classes(pack).HSpaceLoadDemoFaces
        (self.name,) = [name for name in loader.define_schema().inputs[0].options if kind in name]
        self.model, self.clip, self.vae = loader.execute(self.name).result
        self.model.model.to(memory_format=torch.channels_last)
        self.host, self.directions = self.module("nodes.host"), self.module("directions")
        self.host.register_folders()
        self.judge = self.host.load_classifier("demo attributes (built in)")
        self.empty = {"samples": torch.zeros(1, 4, 32, 32)}
        self._encoded = cache(self._encode)

    def module(self, name: str):
        return importlib.import_module(f"{self.pack.__name__}.{name}")

    def sigmas(self, steps: int) -> Tensor:
        from models import sigmas

        return sigmas(self.model, steps, self.scheduler)

    def prompts(self, texts: Sequence[str]) -> list:
        """The conditioning in which every picture of a batch has a prompt of its own."""
        encoded, pooled = (torch.cat(each) for each in zip(*map(self._encoded, texts), strict=True))
        return [[encoded, {"pooled_output": pooled}]]

    def _encode(self, text: str) -> tuple[Tensor, Tensor]:
        return self.clip.encode_from_tokens(self.clip.tokenize(text), return_pooled=True)

    @torch.no_grad()
    def latents(
        self, texts: Sequence[str], seeds: Sequence[int], *, model=None, cfg: float = CFG, steps: int = STEPS,
        sampler=None, negative: str = "", start: Tensor | None = None,
        sides: tuple[int, int] = (32, 32),
    ) -> Tensor:  # fmt: skip
        """Finished latents `(n, 4, *sides)`, each of its own prompt and seed, by euler or another sampler.

        From a latent `start`, if given, the second half of the steps.
        """
        import comfy.samplers

        sample, parts = self.host.sample, []
        latent = {"samples": torch.zeros(1, 4, *sides) if start is None else start}
        sigmas = self.sigmas(steps) if start is None else self.sigmas(steps)[steps // 2 :]
        for first in range(0, len(seeds), BATCH):
            part = slice(first, first + BATCH)
            parts.append(
                sample(
                    model or self.model,
                    positive=self.prompts(texts[part]),
                    negative=self.prompts([negative]),
                    cfg=cfg,
                    sampler=sampler or comfy.samplers.sampler_object("euler"),
                    sigmas=sigmas,
                    latent=latent,
                    seeds=seeds[part],
                    on_step=lambda x0: None,
                )  # fmt: skip
            )
        return torch.cat(parts)

    @torch.no_grad()
    def pictures(self, texts: Sequence[str], seeds: Sequence[int], **settings) -> Tensor:
        """`(n, 64, 64, 3)` in 0..1."""
        return torch.cat([self.vae.decode(part) for part in self.latents(texts, seeds, **settings).split(BATCH)])

    @torch.no_grad()
    def scores(self, pictures: Tensor) -> Tensor:
        """The judge's `(n, 10)`, in the attributes' own units."""
        return self.judge.scores(pictures)

    @cached_property
    def network(self):
        """The judge outside ComfyUI."""
        from attributes import AttributeClassifier

        return AttributeClassifier.load(ROOT / "demo" / "classifier")

    def features(self, pictures: Tensor) -> Tensor:
        """What the judge sees of a face before it scores it, `(n, f)`."""
        with torch.no_grad():
            return self.network.features(pictures.movedim(-1, 1) * 2 - 1).flatten(1)

    @property
    def levels(self) -> tuple[str, ...]:
        """The sites that finders take when nobody says which."""
        return self.host.chosen_sites(self.model, ["auto"])

    def recorded(
        self, folder, runs: Mapping[str, str], seeds: Sequence[int], *, cfg: float = CFG, steps: int = STEPS,
        sites: Sequence[str] = ("middle",),
    ):  # fmt: skip
        """A bank of `seeds` for each name and prompt."""
        settings = {name: self._run(text, cfg, steps) for name, text in runs.items()}
        with folder_of("hspace_banks", folder):
            return self.module("nodes.host.bank_recording").record_banks(
                self.model, settings, latent=self.empty, seeds=seeds, batch_size=BATCH, branch="positive", sites=sites,
                grid=None,
            )  # fmt: skip

    def slider(
        self, folder, scenes: Sequence[str], words: tuple[str, str], seeds: Sequence[int], *, cfg: float = CFG,
        steps: int = STEPS, sites: Sequence[str] | None = None,
    ):  # fmt: skip
        """What Find Direction (Words) finds between two words in these scenes."""
        sides = {"with": words[0], "without": words[1]}
        pairs = [
            {
                side: self._run(", ".join(filter(None, (scene, word))), cfg, steps) | {"latent": self.empty}
                for side, word in sides.items()
            }
            for scene in scenes
        ]
        with folder_of("hspace_banks", folder), torch.no_grad():
            found, _ = self.host.find_slider(
                self.model, pairs, name=words[0], seeds=seeds, batch_size=BATCH, branch="positive",
                sites=sites or self.levels,
            )  # fmt: skip
        return found.direction

    def learnt(
        self, scenes: Sequence[tuple[str, str, str]], kept: Sequence[tuple[str, str]] = (), *, rounds: int,
        batch_size: int = 8, cfg: float = CFG, steps: int = STEPS, sites: Sequence[str] | None = None,
    ):  # fmt: skip
        """What Learn Direction (Words) learns in scenes, each with the word, its opposite and neither."""
        import comfy.samplers

        ui, trainers = self.module("nodes.ui"), self.module("nodes.host.slider_trainer")
        told = [ui.WordScene(*scene) for scene in scenes], [ui.WordScene(*each, "") for each in kept]

        def prompts_of(number: int):
            prompts = ui.lesson_prompts(*told, number)
            told_each = prompts.neutral, prompts.having, prompts.lacking, *prompts.kept
            return [self.prompts([text]) for text in told_each]

        run = dict(sampler=comfy.samplers.sampler_object("euler"), sigmas=self.sigmas(steps), latent=self.empty)
        with torch.inference_mode():
            trainer = trainers.SliderTrainer(
                self.model, prompts_of, self.prompts([""]), run, cfg, 70_000, batch_size, rounds, sites or self.levels
            )
            learnt = trainer.started({}, Path())
            while len(learnt.losses) < rounds:
                trainer.train_round(learnt)
            source = self.host.source_of(self.model, self.empty, "positive")
            direction = trainer.direction(learnt, name=scenes[0][0], unit="the word", source=source, recipe="{}")
            return trainer.calibrated(direction).applied(direction)

    def _run(self, text: str, cfg: float, steps: int) -> dict:
        import comfy.samplers

        return dict(
            positive=self.prompts([text]), negative=self.prompts([""]), cfg=cfg,
            sampler=comfy.samplers.sampler_object("euler"), sigmas=self.sigmas(steps),
        )  # fmt: skip

    def spread(self, texts: Sequence[str], steps: int) -> Tensor:
        """`(10,)`: the standard deviation of the scores of fresh pictures, the unit that effects are told in."""
        return self.scores(self.pictures(texts, range(5000, 5000 + len(texts)), steps=steps)).std(0)

    def direction_from_scores(self, bank, scores, attribute: str):
        """By regression, the nine other attributes held."""
        others = [name for name in self.judge.columns if name != attribute]
        return self.directions.find_from_scores(bank, scores, attribute, others=others).direction

    def scores_of(self, bank):
        values = torch.cat([self.scores(self.vae.decode(part)) for part in bank.latents().split(BATCH)])
        return self.directions.Scores(self.judge.columns, values, bank.seeds, bank.recipe, "demo classifier")
