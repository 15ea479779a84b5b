"""Inject Stack: several directions in one node, each with its slider."""

from copy import copy

from comfy_api.latest import io

from ..host import inject
from ..ui import APPLY_TO, CATEGORY, CURVE, FIT, MASK, STRENGTH, HSpaceDirection, strength_curve, window_inputs

MOST, SHOWN = 8, 4
PLACES = [f"direction_{number}" for number in range(1, MOST + 1)]


class HSpaceInjectStack(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        tooltip = "From Load Direction, or any node that makes one. Connect one, and a place for another appears."
        template = io.Autogrow.TemplateNames(HSpaceDirection.Input("direction", tooltip=tooltip), names=PLACES, min=1)
        return io.Schema(
            node_id="HSpaceInjectStack",
            display_name="Inject Stack",
            category=CATEGORY,
            description="Several edits in one node, each with its slider: the same as a chain of Inject Direction. "
            "Their order does not matter, and an edit at strength 0 is not there at all, to the bit.",
            search_aliases=["sliders", "stack", "several edits", "mixer", "concept", "attribute", "lora stack"],
            inputs=[
                io.Model.Input("model", tooltip="The model the directions were found in, or one of its family."),
                io.Autogrow.Input("directions", template=template, tooltip=tooltip),
                *map(slider, range(1, MOST + 1)),
                *window_inputs(),
                APPLY_TO,
                FIT,
                MASK,
                CURVE,
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="To any sampler.")],
        )

    @classmethod
    def execute(
        cls, model, directions, strength_1, strength_2, strength_3, strength_4, strength_5, strength_6, strength_7,
        strength_8, start_percent, end_percent, apply_to, fit, mask=None, curve=None,
    ):  # fmt: skip
        strengths = strength_1, strength_2, strength_3, strength_4, strength_5, strength_6, strength_7, strength_8
        window = dict(start_percent=start_percent, end_percent=end_percent, apply_to=apply_to, fit=fit, mask=mask)
        for place, strength in zip(PLACES, strengths, strict=True):
            if place in directions:
                model = inject(model, directions[place], [strength], **window, curve=strength_curve(curve))
        return io.NodeOutput(model)


def slider(number: int) -> io.Float.Input:
    """Of the direction in place `number`; those that few will need are under "advanced"."""
    strength = copy(STRENGTH)
    strength.id = f"strength_{number}"
    strength.tooltip = f"Of direction_{number}: {STRENGTH.tooltip}"
    strength.advanced = number > SHOWN
    return strength


NODES = [HSpaceInjectStack]
