"""Load Demo Faces: small text-to-image models of cartoon faces that come with the pack, as MODEL, CLIP and VAE."""

from comfy_api.latest import io

from ..host import DEMO_CHECKPOINTS, load_prompted_faces
from ..ui import CATEGORY


class HSpaceLoadDemoFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceLoadDemoFaces",
            display_name="Load Demo Faces",
            category=CATEGORY,
            description="Loads the demo faces that listen to words: a Stable Diffusion 1.x or a Flux 1 of 8 MB, "
            'trained on cartoon faces. Use it as Load Checkpoint, with prompts such as "portrait of a smiling old man '
            'with glasses", at 64x64 and cfg 3.',
            search_aliases=["checkpoint", "stable diffusion", "flux", "prompted faces", "demo model", "example model"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=list(DEMO_CHECKPOINTS),
                    tooltip="Which of the models that come with this pack. They need no download.",
                )
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="For KSampler, cfg 3 (1 to 10), and the h-space nodes."),
                io.Clip.Output(
                    display_name="clip",
                    tooltip="For CLIP Text Encode. It knows words for smile, age, glasses, beard, hair, skin and where "
                    "a face looks; others do nothing.",
                ),
                io.Vae.Output(display_name="vae", tooltip="For VAE Decode and VAE Encode. Pictures of 64x64."),
            ],
        )

    @classmethod
    def execute(cls, model: str) -> io.NodeOutput:
        return io.NodeOutput(*load_prompted_faces(DEMO_CHECKPOINTS[model]))


NODES = [HSpaceLoadDemoFaces]
