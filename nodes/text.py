"""Score the pictures of a bank by how much they look like a text."""

import torch
from comfy_api.latest import io
from torch import Tensor
from torch.nn.functional import normalize

from ..directions import Scores
from .decode import decoded
from .inputs import CLIP, CLIP_VISION, DECODE_SIZE
from .types import CATEGORY, HSpaceBank, HSpaceScores


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


def text_embedding(clip, text: str) -> Tensor:
    """`(1, d)` of unit length. `ValueError` where the model has none that pictures could be compared with."""
    tokens, model = clip.tokenize(text), clip.cond_stage_model
    clip.load_model(tokens)
    model.reset_clip_options()
    # as CLIP.encode_from_tokens does it, which for clip_l leaves out the projection
    model.set_clip_options({"execution_device": clip.patcher.load_device, "projected_pooled": True})
    pooled = model.encode_token_weights(tokens)[1]
    model.reset_clip_options()
    if pooled is None or not torch.isfinite(pooled).all() or not pooled.any():
        raise ValueError(
            "This CLIP has no text projection, so texts can't be compared with pictures: got an empty embedding. Load "
            "a complete one, such as clip_l.safetensors, with Load CLIP."
        )
    return normalize(pooled.float().cpu(), dim=-1)


def similarities(clip_vision, images: Tensor, texts: Tensor) -> Tensor:
    """Cosine `(n, m)` of images `(n, height, width, 3)` in 0..1 and texts `(m, d)`."""
    embeddings = require_halves(clip_vision.encode_image(images[..., :3])["image_embeds"], texts.shape[-1])
    return normalize(embeddings.float().cpu(), dim=-1) @ texts.T


def require_halves(embeddings: Tensor | None, width: int) -> Tensor:
    """Embeddings of pictures. `ValueError` unless texts, of `width` numbers, can be compared with them."""
    if embeddings is None or embeddings.shape[-1] != width:
        got = "none" if embeddings is None else embeddings.shape[-1]
        raise ValueError(
            f"clip and clip_vision are not halves of one model: got picture embeddings of {got} numbers, wanted "
            f"{width} as of the texts. For clip_l load a ViT-L/14 vision model, for clip_g a ViT-bigG."
        )
    return embeddings


NODES = [HSpaceScoreText]
