"""Compare Sites: one slider from two prompts at each site of a model, beside the prompt itself."""

import json
from collections.abc import Mapping, Sequence

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ...directions import Direction, gone_along, gone_aside, usable_range
from ..host import Progress, inject, levels_of, record_pairs, sample, seed_range, single_latent
from ..ui import (
    BATCH_SIZE,
    CATEGORY,
    CFG,
    EMPTY_LATENT,
    FEW_STEPS,
    NEGATIVE_OF_BOTH,
    PROMPTED_MODEL,
    VAE,
    WITH_IT,
    WITHOUT_IT,
    HSpaceObjective,
    below,
    first_seed_input,
    grid,
    parse_strengths,
    strength_labels,
    tracks,
)

ALL = "all together"


class HSpaceCompareSites(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceCompareSites",
            display_name="Compare Sites",
            category=CATEGORY,
            description="Finds one slider from two prompts at each site of a model and tries each on fresh seeds, "
            "beside the prompt itself: how far it goes, how much else it changes, and how far it can be pushed.",
            search_aliases=["which sites", "where is the meaning", "benchmark slider", "does it work", "levels"],
            inputs=[
                PROMPTED_MODEL,
                WITH_IT,
                WITHOUT_IT,
                NEGATIVE_OF_BOTH,
                io.Sampler.Input("sampler", tooltip="Any sampler but dpm_adaptive."),
                FEW_STEPS,
                EMPTY_LATENT,
                VAE,
                io.Int.Input("count", default=32, min=2, max=1000, tooltip="Pairs the slider is found in. 20 to 100."),
                io.Int.Input("pictures", default=6, min=2, max=100, tooltip="Fresh seeds it is tried on. 4 to 16."),
                first_seed_input("pair"),
                io.String.Input(
                    "strengths",
                    default="0.25, 0.5, 1, 2",
                    tooltip="Numbers above 0 with commas between them. 0.25 to 3.",
                ),
                BATCH_SIZE,
                CFG,
                io.Int.Input(
                    "picture_size",
                    default=96,
                    min=32,
                    max=2048,
                    tooltip="Longer side of each picture in the sheet, in pixels. 96 to 256.",
                ),
                HSpaceObjective.Input(
                    "objective",
                    optional=True,
                    tooltip="From Set Objective: says how far pictures go. Without it, their way is the mean "
                    "difference of the pairs' pictures.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="sheet", tooltip="A curve for each site, and the first fresh seed."),
                io.String.Output(display_name="table", tooltip="All numbers, as JSON that can be sent to others."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, model, positive, opposite, negative, sampler, sigmas, latent, vae, count, pictures, first_seed, strengths,
        batch_size, cfg, picture_size, objective=None,
    ):  # fmt: skip
        steps = [strength for strength in parse_strengths(strengths) if strength > 0]
        seeds, latent = seed_range(first_seed, count + pictures), single_latent(model, latent)
        shared = dict(negative=negative, cfg=cfg, sampler=sampler, sigmas=sigmas, latent=latent)
        prompts = {"with": dict(positive=positive, **shared), "without": dict(positive=opposite, **shared)}
        pairs = record_pairs(
            model, [prompts], name="compare sites", seeds=seeds[:count], batch_size=batch_size, branch="positive",
            sites=levels_of(model),
        )  # fmt: skip
        found = pairs.sums.direction(name="slider", source=pairs.source, recipe=pairs.recipe).direction
        choices = {site: found.only([site]) for site in found.sites} | {ALL: found}
        trial = _Trial(model, vae, prompts, seeds[count:], len(choices) * len(steps))
        judge = _Judge(objective, way_of(pairs.latents, vae), trial)
        drawn = {name: [trial.edited(direction, s) for s in steps] for name, direction in choices.items()}
        word = judge(trial.word)
        curves = {name: [judge(each) for each in row] for name, row in drawn.items()}
        table = {
            "model": {"family": found.source.family, "fingerprint": found.source.fingerprint},
            "size": found.source.image_size, "steps": len(sigmas) - 1, "cfg": cfg, "pairs": count, "pictures": pictures,
            "judged by": objective.name if objective else "the pairs' pictures",
            "prompt": {"along": word[0], "aside": word[1]},
            "sites": {
                name: {
                    "strengths": steps, "along": [a for a, _ in curve], "aside": [b for _, b in curve],
                    "usable": usable_range(steps, *zip(*curve, strict=True)),
                }
                for name, curve in curves.items()
            },
        }  # fmt: skip
        sheet = sheet_of(trial, drawn, curves, word, steps, picture_size)
        return io.NodeOutput(sheet, json.dumps(table, indent=1), ui=ui.PreviewImage(sheet, cls=cls))


class _Trial:
    """Fresh seeds without the slider, and with the word in the prompt."""

    def __init__(self, model, vae, prompts: Mapping[str, dict], seeds: Sequence[int], edits: int):
        self.model, self.vae, self.prompts, self.seeds = model, vae, prompts, seeds
        self.progress = Progress(model, (2 + edits) * (len(prompts["with"]["sigmas"]) - 1))
        self.plain = self._drawn(model, "without")
        self.word = self._drawn(model, "with")

    def edited(self, direction: Direction, strength: float) -> Tensor:
        return self._drawn(inject(self.model, direction, [strength]), "without")

    def _drawn(self, model, side: str) -> Tensor:
        latents = sample(model, **self.prompts[side], seeds=self.seeds, on_step=self.progress)
        return self.vae.decode(latents).cpu()


class _Judge:
    """How far pictures went, as a share of what the word does, and how far aside."""

    def __init__(self, objective, way: Tensor, trial: _Trial):
        self.objective, self.way, self.plain = objective, way, trial.plain
        self.of_word = self._moved(trial.word)

    def __call__(self, pictures: Tensor) -> tuple[float, float]:
        return self._moved(pictures) / self.of_word, float(gone_aside(pictures, self.plain, self.way).mean())

    def _moved(self, pictures: Tensor) -> float:
        if self.objective is None:
            return float(gone_along(pictures, self.plain, self.way).mean())
        edited, plain = (self.objective.features(each.movedim(-1, 1)) for each in (pictures, self.plain))
        return float(self.objective.moved(edited, plain).mean())


def way_of(latents: Mapping[str, Tensor], vae) -> Tensor:
    """What the pictures with the word are more than those without, `(height, width, 3)`."""
    having, lacking = (vae.decode(latents[side]).cpu().mean(0) for side in ("with", "without"))
    return having - lacking


def sheet_of(
    trial: _Trial, drawn: Mapping[str, list[Tensor]], curves, word, steps: Sequence[float], size: int
) -> Tensor:
    rows = torch.stack(
        [torch.stack([trial.plain[0], *(each[0] for each in row), trial.word[0]]) for row in drawn.values()]
    )
    labels = ["without", *strength_labels(steps), "in the prompt"]
    pictures = grid(
        rows, title=f"seed {trial.seeds[0]}", row_labels=list(drawn), column_labels=labels, highlighted=[0], size=size
    )
    plot = tracks(
        {name: [(0.0, 0.0), *curve] for name, curve in curves.items()}, {"in the prompt": word},
        x_label="as far as the prompt goes", y_label="aside (1: another picture)", width=pictures.shape[2],
    )  # fmt: skip
    return below(plot, pictures)


NODES = [HSpaceCompareSites]
