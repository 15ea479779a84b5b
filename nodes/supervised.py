"""Find a direction from scores, from examples, or from two prompts."""

import torch
from comfy_api.latest import io, ui

from ..directions import Found, find_from_examples, find_from_scores
from .finder_progress import finder_progress
from .inputs import BATCH_SIZE, BRANCH, CFG, first_seed_input
from .plots import line_plots
from .record import record_banks
from .sampling import seed_range
from .text_fields import parse_names
from .types import CATEGORY, HSpaceBank, HSpaceDirection, HSpaceScores

SHARED_SEEDS = (
    " Both banks hold the same seeds, so their noise is alike and these figures are wrong: give one of them another "
    "seed, or turn paired on if their pictures belong together."
)


def finder_outputs() -> list:
    return [
        HSpaceDirection.Output(display_name="direction", tooltip="To Inject, Sweep, Orthogonalise or Save Direction."),
        io.Image.Output(display_name="plot", tooltip="How far to trust the direction, at each timestep."),
        io.String.Output(display_name="info", tooltip="The same in one line."),
    ]


class HSpaceFindFromScores(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceFindFromScores",
            display_name="Find Direction (Scores)",
            category=CATEGORY,
            description="Finds what the pictures of a bank that score high in a column have in their bottleneck and "
            "those that score low lack, such as a smile.",
            search_aliases=[
                "supervised",
                "classifier direction",
                "attribute",
                "regression",
                "mean difference",
                "slider",
            ],
            inputs=[
                HSpaceBank.Input("bank", tooltip="The bank that was scored. 200 pictures or more."),
                HSpaceScores.Input("scores", tooltip="From a Score Pictures node or Mark Examples."),
                io.String.Input("column", default="smile", tooltip='Which score: a name such as "smile".'),
                io.Combo.Input(
                    "method",
                    options=["regression", "examples"],
                    default="regression",
                    tooltip="regression uses every picture and can hold other columns still. examples is the mean of "
                    "the highest minus the mean of the lowest, the paper's way.",
                ),
                io.Int.Input(
                    "examples",
                    default=50,
                    min=0,
                    max=100000,
                    tooltip="How many pictures with the highest and with the lowest scores; strength 1 leads from "
                    "these to those. A quarter of the bank is usual. 0 splits all pictures half-way, right for marks.",
                ),
                io.String.Input(
                    "others",
                    default="",
                    tooltip='Columns to hold still, such as "age, glasses": what goes with them is not taken for the '
                    "edit. Empty holds none.",
                ),
                io.Float.Input(
                    "ridge",
                    default=0.01,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    round=0.0001,
                    advanced=True,
                    tooltip="regression only: how much to distrust columns that go together. 0.01 is right unless "
                    "others are nearly the same as column; then up to 1.",
                ),
                io.String.Input("name", default="", tooltip="Name of the direction. Empty takes the column's."),
            ],
            outputs=finder_outputs(),
        )

    @classmethod
    def execute(cls, bank, scores, column, method, examples, others, ridge, name):
        found = find_from_scores(
            bank, scores, column.strip(), name=name.strip(), method=method, examples=examples,
            others=parse_names(others), ridge=ridge, on_progress=finder_progress(),
        )  # fmt: skip
        return answer(found)


class HSpaceFindFromExamples(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceFindFromExamples",
            display_name="Find Direction (Examples)",
            category=CATEGORY,
            description="The mean of one bank minus the mean of another: what pictures with something have in their "
            "bottleneck and pictures without it lack.",
            search_aliases=["supervised", "mean difference", "contrast", "positive negative", "few-shot"],
            inputs=[
                HSpaceBank.Input("positive", tooltip="Pictures with it. A few tens are enough."),
                HSpaceBank.Input("negative", tooltip="Pictures without it, recorded with the same size and schedule."),
                io.Boolean.Input(
                    "paired",
                    default=False,
                    tooltip="On if picture i of both belongs together, such as the same seed. It changes how the trust "
                    "is measured, not the direction.",
                ),
                io.String.Input("name", default="my direction", tooltip='Name of the direction, such as "smile".'),
            ],
            outputs=finder_outputs(),
        )

    @classmethod
    def execute(cls, positive, negative, paired, name):
        found = find_from_examples(positive, negative, paired=paired, name=name.strip(), on_progress=finder_progress())
        shared = not paired and not set(positive.seeds).isdisjoint(negative.seeds)
        return answer(found, SHARED_SEEDS if shared else "")


class HSpaceFindFromPrompts(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceFindFromPrompts",
            display_name="Find Direction (Prompts)",
            category=CATEGORY,
            description="Samples the same seeds under two prompts and takes what differs in the bottleneck. For "
            "text-to-image models. Both banks are kept on disk and continue where they were interrupted.",
            search_aliases=["prompt pair", "text direction", "contrast", "concept", "slider"],
            inputs=[
                io.Model.Input("model", tooltip="A text-to-image UNet: SD 1.x, SD 2.x, SDXL."),
                io.Conditioning.Input("positive", tooltip='A prompt with it, such as "photo of a smiling person".'),
                io.Conditioning.Input("opposite", tooltip='The same prompt without it: "photo of a serious person".'),
                io.Conditioning.Input("negative", tooltip="The negative prompt of both. Not used at cfg 1."),
                io.Sampler.Input("sampler", tooltip="Any sampler."),
                io.Sigmas.Input("sigmas", tooltip="The schedule. 10 to 25 steps are enough."),
                io.Latent.Input("latent", tooltip="One empty latent: gives the size of the pictures."),
                io.String.Input("name", default="my direction", tooltip="Name of the direction and of its banks."),
                io.Int.Input("count", default=50, min=1, max=100000, tooltip="Seeds under each prompt. 20 to 200."),
                first_seed_input("picture"),
                BATCH_SIZE,
                CFG,
                BRANCH,
            ],
            outputs=finder_outputs(),
        )

    @classmethod
    def execute(
        cls, model, positive, opposite, negative, sampler, sigmas, latent, name, count, first_seed, batch_size, cfg,
        branch,
    ):  # fmt: skip
        name, shared = name.strip(), dict(negative=negative, cfg=cfg, sampler=sampler, sigmas=sigmas)
        prompts = {f"{name} with": positive, f"{name} without": opposite}
        banks = record_banks(
            model, {side: dict(positive=prompt, **shared) for side, prompt in prompts.items()}, latent=latent,
            seeds=seed_range(first_seed, count), batch_size=batch_size, branch=branch,
        )  # fmt: skip
        return answer(find_from_examples(*banks, paired=True, name=name, on_progress=finder_progress()))


def answer(found: Found, remark: str = "") -> io.NodeOutput:
    """Direction, plot and info with a remark; the plot is shown on the node too."""
    trust = found.trust
    x = found.direction.timesteps
    unknown = torch.full_like(x, torch.nan) if trust is None else None
    curves = {
        "held-out d'": unknown if trust is None else trust.d_prime,
        "split-half cosine": unknown if trust is None else trust.cosine,
    }
    plot = line_plots(x, curves, title=f'How steady "{found.direction.name}" is', x_label="timestep")
    info = found.summary() + remark
    return io.NodeOutput(found.direction, plot, info, ui=ui.PreviewImage(plot))


NODES = [HSpaceFindFromScores, HSpaceFindFromExamples, HSpaceFindFromPrompts]
