"""CLIP's embeddings of texts and pictures, made comparable."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def conditioning(clip, text: str) -> list:
    """What core's CLIP Text Encode makes of `text`."""
    encoded: list = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    return encoded


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
    embeddings = require_same_width(clip_vision.encode_image(images[..., :3])["image_embeds"], texts.shape[-1])
    return normalize(embeddings.float().cpu(), dim=-1) @ texts.T


def require_same_width(embeddings: Tensor | None, width: int) -> Tensor:
    """Embeddings of pictures. `ValueError` unless texts, of `width` numbers, can be compared with them."""
    if embeddings is None or embeddings.shape[-1] != width:
        got = "none" if embeddings is None else embeddings.shape[-1]
        raise ValueError(
            f"clip and clip_vision are not halves of one model: got picture embeddings of {got} numbers, wanted "
            f"{width} as of the texts. For clip_l load a ViT-L/14 vision model, for clip_g a ViT-bigG."
        )
    return embeddings
