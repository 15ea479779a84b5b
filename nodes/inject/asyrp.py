"""Kwon et al.'s asymmetric step as a SAMPLER."""

from comfy.samplers import KSAMPLER
from comfy_api.latest import io

from ..host import sample_asyrp
from ..ui import APPLY_TO, CATEGORY, FIT, HSpaceDirection


class HSpaceAsyrpSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceAsyrpSampler",
            display_name="Asyrp Sampler",
            category=CATEGORY,
            description="Edits in Kwon et al.'s way: the edited prediction moves the picture, the unedited one the "
            "noise, so the edit is stronger and is not undone by later steps. A sampler of its own; the model stays "
            "without Inject Direction.",
            search_aliases=["asymmetric reverse process", "kwon", "edit", "sampler", "semantic"],
            inputs=[
                HSpaceDirection.Input("direction", tooltip="One direction; for several, Combine Directions."),
                io.Float.Input(
                    "strength",
                    default=0.3,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    round=0.001,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="0 is off. Grows with the number of steps: unlike Inject Direction's. Kwon et al. multiply "
                    "a strength found at n steps by n / steps, and N attributes by 1 / sqrt(N). 0.1 to 1.",
                ),
                io.Float.Input(
                    "edit_until",
                    default=0.8,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="Where in the sampling the edit ends: 0 is pure noise, 1 the finished picture. 0.5 "
                    "(Kwon et al.) to 1; a smile of the demo faces needs 0.8.",
                ),
                io.Float.Input(
                    "boost_from",
                    default=0.83,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip='From here on fresh noise is added ("quality boosting"), which sharpens. About 0.83; 1 is '
                    "off and makes the sampler deterministic.",
                ),
                APPLY_TO,
                FIT,
            ],
            outputs=[io.Sampler.Output(display_name="sampler", tooltip="To SamplerCustom or SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, direction, strength, edit_until, boost_from, apply_to, fit):
        options = dict(direction=direction, strength=strength, edit_until=edit_until, boost_from=boost_from)
        return io.NodeOutput(KSAMPLER(sample_asyrp, {**options, "apply_to": apply_to, "fit": fit}))


NODES = [HSpaceAsyrpSampler]
