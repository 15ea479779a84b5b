"""Measure leakage: what each edit changes besides what it should."""

import json
import math
from collections.abc import Sequence

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ...directions import Direction, Leakage, change, orthogonalise
from ..host import Progress, inject, sample, seed_range, single_latent
from ..ui import (
    ANY_SAMPLER,
    BATCH_SIZE,
    CATEGORY,
    CFG,
    EMPTY_LATENT,
    NEGATIVE,
    POSITIVE,
    SPAN,
    VAE,
    HSpaceClassifier,
    connected,
    csv_table,
    directions_input,
    first_seed_input,
    heat_maps,
    one_each,
    parse_names,
    parse_strengths,
)


class HSpaceLeakage(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceLeakage",
            display_name="Measure Leakage",
            category=CATEGORY,
            description="Edits fresh pictures with each direction and lets a classifier judge what changed, before and "
            "after each is made independent of all the others: the table that says whether edits can be stacked.",
            search_aliases=["disentanglement", "table", "evaluate", "benchmark", "side effects"],
            inputs=[
                io.Model.Input("model", tooltip="The model the directions were found in."),
                POSITIVE,
                NEGATIVE,
                ANY_SAMPLER,
                io.Sigmas.Input("sigmas", tooltip="The schedule. 10 steps are enough."),
                EMPTY_LATENT,
                VAE,
                HSpaceClassifier.Input("classifier", tooltip="What measures the edits, from Load Classifier."),
                directions_input("directions", "The edits: a row of the table each.", fewest=2),
                io.String.Input(
                    "columns",
                    default="",
                    tooltip="What each edit should change: a column of the classifier for each direction, in order, "
                    'such as "smile, age". Empty takes the column each was found from, or its name.',
                ),
                io.String.Input(
                    "strengths",
                    default="1",
                    tooltip="Strength of the edits: one for all, or one for each with commas between. 0.3 to 2.",
                ),
                SPAN,
                io.Int.Input("pictures", default=50, min=2, max=10000, tooltip="Pictures for each edit. 50 to 200."),
                io.Int.Input(
                    "repeats",
                    default=2,
                    min=1,
                    max=100,
                    tooltip="How often, with new pictures: gives the standard deviations. 2 to 10. Samples "
                    "pictures x repeats x (1 + 2 x directions) in all.",
                ),
                first_seed_input("picture"),
                BATCH_SIZE,
                CFG,
                directions_input("also_protected", "What no edit may change, besides the other edits.", fewest=0),
            ],
            outputs=[
                io.Image.Output(display_name="table", tooltip="Before and after, in standard deviations of the score."),
                io.String.Output(display_name="csv", tooltip="The same as text with commas, for a spreadsheet."),
                io.String.Output(display_name="info", tooltip="On target, off target, and how much both fell."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, model, positive, negative, sampler, sigmas, latent, vae, classifier, directions, columns, strengths, span,
        pictures, repeats, first_seed, batch_size, cfg, also_protected=None,
    ):  # fmt: skip
        edits = connected(directions)
        columns = columns_of(edits, parse_names(columns), classifier)
        strengths = one_each(parse_strengths(strengths), len(edits))
        cleaned = independent(edits, connected(also_protected), span)
        settings = dict(positive=positive, negative=negative, cfg=cfg, sampler=sampler, sigmas=sigmas)
        meter = _LeakageMeter(model, single_latent(model, latent), vae, classifier, columns, settings, batch_size)
        seeds = [seed_range(first_seed + repeat * pictures, pictures) for repeat in range(repeats)]
        leakage = meter.leakage(edits, cleaned, strengths, seeds)
        spreads = leakage.spreads
        title = f"Change of each score, in standard deviations ({pictures} pictures" + (
            f", ± over {repeats} repeats)" if spreads else ")"
        )
        picture = heat_maps(
            leakage.tables, title=title, rows=leakage.edits, columns=columns, bound=2.0, spreads=spreads
        )
        table = csv_table(["side", "edit", "column", "change", "std"], leakage.rows())
        return io.NodeOutput(picture, table, leakage.summary(), ui=ui.PreviewImage(picture, cls=cls))


def columns_of(edits: Sequence[Direction], names: Sequence[str], classifier) -> list[str]:
    """The column that each edit is meant to change."""
    names = names or [column_found_from(edit) or edit.name for edit in edits]
    unknown = [name for name in names if name not in classifier.columns]
    if unknown or len(names) != len(edits):
        raise ValueError(
            f"Each edit needs a column of the classifier: got {', '.join(names)} for {len(edits)} directions, wanted "
            f"{len(edits)} of {', '.join(classifier.columns)}. Type them into columns, in the order of the directions."
        )
    return list(names)


def column_found_from(direction: Direction) -> str | None:
    match json.loads(direction.recipe):
        case {"column": str(column)}:
            return column
    return None


def independent(edits: Sequence[Direction], also: Sequence[Direction], span: str) -> list[Direction]:
    """Each edit without what it shares with all the others and with `also`."""
    return [orthogonalise(edit, [*(other for other in edits if other is not edit), *also], span=span) for edit in edits]


class _LeakageMeter:
    """Samples pictures with an edit, and has them scored."""

    def __init__(self, model, latent, vae, classifier, columns, settings, batch_size):
        self.model, self.latent, self.vae, self.classifier = model, latent, vae, classifier
        self.columns = [classifier.columns.index(column) for column in columns]
        self.names, self.settings, self.batch_size = tuple(columns), settings, batch_size

    def leakage(self, edits, cleaned, strengths: Sequence[float], seeds: Sequence[range]) -> Leakage:
        """`edits` before and `cleaned` after, at `strengths`; a repeat for each range of seeds."""
        batches = sum(math.ceil(len(part) / self.batch_size) for part in seeds) * (1 + 2 * len(edits))
        progress = Progress(self.model, batches * (len(self.settings["sigmas"]) - 1))
        changes = []
        for part in seeds:
            plain = self.scores(self.model, part, progress)
            if (plain.std(0) == 0).any():
                constant = self.names[int((plain.std(0) == 0).nonzero()[0])]
                raise ValueError(f'The classifier gives all pictures the same "{constant}": use more or other ones.')
            rows = [
                change(self.scores(inject(self.model, edit, [strength]), part, progress), plain)
                for side in (edits, cleaned)
                for edit, strength in zip(side, strengths, strict=True)
            ]
            changes.append(torch.stack(rows).unflatten(0, (2, len(edits))))
        before, after = torch.stack(changes, 1)
        return Leakage(tuple(edit.name for edit in edits), self.names, before, after)

    def scores(self, model, seeds: range, progress: Progress) -> Tensor:
        """`(n, k)`, of the pictures that `model` makes of `seeds`."""
        judged = []
        for first in range(0, len(seeds), self.batch_size):
            batch = seeds[first : first + self.batch_size]
            latents = sample(model, **self.settings, latent=self.latent, seeds=batch, on_step=progress)
            judged.append(self.classifier.scores(self.vae.decode(latents)))
        return torch.cat(judged)[:, self.columns]


NODES = [HSpaceLeakage]
