"""Inject a direction into a model while it samples."""

from comfy_api.latest import io

from . import unet
from .inputs import APPLY_TO, FIT, MASK, window_inputs
from .types import CATEGORY, HSpaceDirection


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
                *window_inputs(),
                APPLY_TO,
                FIT,
                MASK,
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
