"""Inject a direction into a model while it samples."""

from comfy_api.latest import io

from . import unet
from .types import CATEGORY, HSpaceDirection

APPLY_TO = io.Combo.Input(
    "apply_to",
    options=["both", "positive", "negative"],
    default="both",
    advanced=True,
    tooltip="Which side of the guidance is edited. both moves the picture as a whole; positive alone is stronger "
    "with cfg above 1.",
)
FIT = io.Combo.Input(
    "fit",
    options=["resize", "exact", "channel mean"],
    default="resize",
    advanced=True,
    tooltip="When the picture's size differs from the direction's: resize stretches it, exact refuses, channel mean "
    "drops its layout and keeps only what it does everywhere.",
)


def percent_input(id: str, default: float, which: str):
    return io.Float.Input(
        id,
        default=default,
        min=0.0,
        max=1.0,
        step=0.001,
        advanced=True,
        tooltip=f"Where in the sampling the edit {which}, as a share: 0 is pure noise, 1 the finished picture. "
        f"{default:g} leaves nothing out.",
    )


class HSpaceInject(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceInject",
            display_name="Inject Direction",
            category=CATEGORY,
            description="Edits what a model draws by adding a direction to its bottleneck while any sampler runs. "
            "Chain several to stack edits: their order does not matter. Strength 0 changes nothing, to the bit.",
            search_aliases=["slider", "concept", "edit", "semantic", "attribute", "apply direction", "h-space"],
            inputs=[
                io.Model.Input("model", tooltip="The model the direction was found in, or one of its family."),
                HSpaceDirection.Input("direction", tooltip="From Load Direction or Pick Direction."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    round=0.001,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="0 is off, 1 a clear edit, 3 a strong one, negative the opposite.",
                ),
                percent_input("start_percent", 0.0, "starts"),
                percent_input("end_percent", 1.0, "ends"),
                APPLY_TO,
                FIT,
                io.Mask.Input("mask", optional=True, tooltip="Where to edit: white is edited, black left alone."),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="To any sampler, or to the next Inject Direction.")],
        )

    @classmethod
    def execute(cls, model, direction, strength, start_percent, end_percent, apply_to, fit, mask=None):
        patched = unet.inject(
            model,
            direction,
            [strength],
            start_percent=start_percent,
            end_percent=end_percent,
            apply_to=apply_to,
            fit=fit,
            mask=mask,
        )
        return io.NodeOutput(patched)


NODES = [HSpaceInject]
