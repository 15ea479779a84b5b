"""Score the pictures of a bank by how much they look like a text."""

import torch
from comfy_api.latest import io

from ...directions import Scores
from ..host import decoded, similarities, text_embedding
from ..ui import CATEGORY, CLIP, CLIP_VISION, DECODE_SIZE, HSpaceBank, HSpaceScores


class HSpaceScoreText(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceScoreText",
            display_name="Score Pictures (Text)",
            category=CATEGORY,
            description="Scores every picture of a bank by how much more it looks like one text than like another, "
            "with CLIP: no classifier is needed.",
            search_aliases=["clip score", "clip similarity", "prompt", "zero-shot", "annotate"],
            inputs=[
                HSpaceBank.Input("bank", tooltip="From Sample Bank: the pictures to judge."),
                io.Vae.Input("vae", tooltip="Decodes the pictures."),
                CLIP,
                CLIP_VISION,
                io.String.Input("text", default="a smiling face", tooltip="What a high score looks like."),
                io.String.Input(
                    "opposite",
                    default="a serious face",
                    tooltip="What a low score looks like. The same sentence with one word changed works best.",
                ),
                DECODE_SIZE,
            ],
            outputs=[
                HSpaceScores.Output(display_name="scores", tooltip="To Find Direction (Scores), column score."),
                io.String.Output(display_name="info", tooltip="Lowest, mean and highest score."),
            ],
        )

    @classmethod
    def execute(cls, bank, vae, clip, clip_vision, text, opposite, batch_size):
        texts = torch.cat([text_embedding(clip, entry) for entry in (text, opposite)])
        values = torch.cat([similarities(clip_vision, images, texts) for images in decoded(bank, vae, batch_size)])
        difference = values[:, :1] - values[:, 1:]
        scores = Scores(("score",), difference, bank.seeds, bank.recipe, f'CLIP "{text}" against "{opposite}"')
        return io.NodeOutput(scores, scores.summary())


NODES = [HSpaceScoreText]
