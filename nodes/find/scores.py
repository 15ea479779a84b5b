"""Find a direction from scores."""

from comfy_api.latest import io

from ...directions import find_from_scores
from ..host import finder_progress
from ..ui import CATEGORY, HSpaceBank, HSpaceScores, answer, finder_outputs, parse_names


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
                HSpaceScores.Input("scores", tooltip="From Score Pictures or Mark Examples."),
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


NODES = [HSpaceFindFromScores]
