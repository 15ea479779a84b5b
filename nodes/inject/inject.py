"""Inject a direction into a model while it samples."""

from comfy_api.latest import io

from ..host import inject
from ..ui import APPLY_TO, CATEGORY, CURVE, FIT, MASK, STRENGTH, HSpaceDirection, strength_curve, window_inputs


class HSpaceInject(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceInject",
            display_name="Inject Direction",
            category=CATEGORY,
            description="Edits what a model draws by adding a direction inside of it while any sampler runs. "
            "Chain several to stack edits: their order does not matter. Strength 0 changes nothing, to the bit.",
            search_aliases=["slider", "concept", "edit", "semantic", "attribute", "apply direction", "h-space"],
            inputs=[
                io.Model.Input("model", tooltip="The model the direction was found in, or one of its family."),
                HSpaceDirection.Input("direction", tooltip="From Load Direction or Pick Direction."),
                STRENGTH,
                *window_inputs(),
                APPLY_TO,
                FIT,
                MASK,
                CURVE,
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="To any sampler, or to the next Inject Direction.")],
        )

    @classmethod
    def execute(cls, model, direction, strength, start_percent, end_percent, apply_to, fit, mask=None, curve=None):
        patched = inject(
            model,
            direction,
            [strength],
            start_percent=start_percent,
            end_percent=end_percent,
            apply_to=apply_to,
            fit=fit,
            mask=mask,
            curve=strength_curve(curve),
        )
        ends = {"usable": direction.usable} if direction.usable and any(direction.usable) else None  # for web/usable.js
        return io.NodeOutput(patched, ui=ends)


NODES = [HSpaceInject]
