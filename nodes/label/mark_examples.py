"""Mark examples by hand, on a numbered contact sheet."""

import torch
from comfy_api.latest import io, ui
from comfy_execution.graph import ExecutionBlocker

from ...directions import Scores
from ..ui import CATEGORY, VAE, HSpaceBank, HSpaceScores, contact_sheet, parse_numbers


class HSpaceMarkExamples(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceMarkExamples",
            display_name="Mark Examples",
            category=CATEGORY,
            description="Shows a bank's pictures with numbers. Run it once, type the numbers of those that have what "
            "you look for and of those that don't, and run it again.",
            search_aliases=["annotate", "label", "pick examples", "contact sheet", "by hand", "select"],
            inputs=[
                HSpaceBank.Input("bank", tooltip="From Sample Bank."),
                VAE,
                io.String.Input(
                    "positive",
                    default="",
                    multiline=True,
                    tooltip='Numbers of pictures that have it, such as "3, 8, 12-15". 4 at least, 20 are better.',
                ),
                io.String.Input(
                    "negative",
                    default="",
                    multiline=True,
                    tooltip="Numbers of pictures that clearly don't have it. As many as of the others.",
                ),
                io.Int.Input("page", default=1, min=1, max=100000, tooltip="Which pictures to show: 1 is the first."),
                io.Int.Input(
                    "per_page", default=60, min=1, max=400, tooltip="Pictures on a page, ten in a row. 20 to 100."
                ),
                io.Int.Input(
                    "picture_size", default=128, min=32, max=1024, tooltip="Longer side of each picture, in pixels."
                ),
            ],
            outputs=[
                HSpaceScores.Output(
                    display_name="scores",
                    tooltip='To Find Direction (Scores): column "marked", examples 0. Nothing until both are marked.',
                ),
                io.Image.Output(display_name="sheet", tooltip="The page, with the marked pictures framed."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, bank, vae, positive, negative, page, per_page, picture_size):
        chosen = parse_numbers(positive, len(bank)), parse_numbers(negative, len(bank))
        first = (page - 1) * per_page
        if first >= len(bank):
            raise ValueError(
                f"There is no page {page}: got {len(bank)} pictures, {per_page} on a page. Choose page 1 to "
                f"{-(-len(bank) // per_page)}."
            )
        last = min(first + per_page, len(bank))
        numbers = range(first + 1, last + 1)
        images = vae.decode(bank.latents(first, last))
        sheet = contact_sheet(images, [str(n) for n in numbers], [marks(n, *chosen) for n in numbers], picture_size)
        scores = marked(bank, *chosen) if all(chosen) else ExecutionBlocker(None)
        return io.NodeOutput(scores, sheet, ui=ui.PreviewImage(sheet, cls=cls))


def marked(bank, positive: list[int], negative: list[int]) -> Scores:
    """1 for the pictures with these numbers, counted from 1, and 0 for those with the others."""
    both = sorted(set(positive) & set(negative))
    if both:
        raise ValueError(f"Picture {both[0]} is marked as positive and as negative: remove it from one of them.")
    seeds = tuple(bank.seeds[number - 1] for number in [*positive, *negative])
    values = torch.tensor([1.0] * len(positive) + [0.0] * len(negative)).unsqueeze(1)
    return Scores(("marked",), values, seeds, bank.recipe, "marked by hand")


def marks(number: int, positive: list[int], negative: list[int]) -> bool | None:
    """Whether a picture is marked as having it; None if it isn't marked."""
    return True if number in positive else False if number in negative else None


NODES = [HSpaceMarkExamples]
