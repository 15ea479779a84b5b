"""Find a direction from examples."""

from comfy_api.latest import io

from ...directions import find_from_examples
from ..host import finder_progress
from ..ui import CATEGORY, HSpaceBank, answer, finder_outputs

SHARED_SEEDS = (
    " Both banks hold the same seeds, so their noise is alike and these figures are wrong: give one of them another "
    "seed, or turn paired on if their pictures belong together."
)


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
                    tooltip="On if picture i of both belongs together, such as the same seed. It changes how the "
                    "reliability is measured, not the direction.",
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


NODES = [HSpaceFindFromExamples]
