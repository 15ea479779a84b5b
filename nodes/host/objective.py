"""What a direction is learnt under: something that sees pictures in a way that has a gradient, and wants a change."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from ...directions import clip_directional_loss, score_shift_loss
from .classifier import Classifier
from .clip import require_same_width, text_embedding
from .derivatives import with_autograd_weights
from .fingerprint import weights_fingerprint
from .loading import require_loaded


@dataclass(frozen=True, eq=False)
class Objective:
    name: str
    """What it wants, in words."""
    unit: str
    """What strength 1 of a direction learnt under it means."""
    recipe: dict
    patcher: ModelPatcher
    """Of what sees."""
    _features: Callable[[Tensor], Tensor]
    loss: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    """`(n,)` of what it sees in edited pictures and in the same unedited, and the spread of the latter `(m,)` at this
    step and at the end."""
    moved: Callable[[Tensor, Tensor], Tensor]
    """`(n,)` of what it sees in edited and unedited pictures: how far they went the way it wants, in its own unit."""

    def features(self, pictures: Tensor) -> Tensor:
        """What it sees, `(n, m)` float32, in pictures `(n, 3, height, width)` in 0..1; on its own device."""
        require_loaded(self.patcher)
        features = self._features(pictures.float().to(self.patcher.load_device))
        if not torch.isfinite(features).all():
            raise ValueError(
                f"The objective ({self.name}) sees NaN or infinity in a picture: got no number to follow. Load it in a "
                "higher precision, or use another one."
            )
        if pictures.requires_grad and not features.requires_grad:
            raise ValueError(
                f"The objective ({self.name}) prepares its pictures in a way that has no gradient: got none, "
                "wanted one to follow. Use a classifier with a fast image processor, or an objective from texts."
            )
        return features.float()


def classifier_objective(classifier: Classifier, column: str, others: list[str]) -> Objective:
    names = [column, *others]
    for name in names:
        if name not in classifier.columns or names.count(name) > 1:
            raise ValueError(
                f'got "{name}" among {", ".join(names)}; wanted each once, of {", ".join(classifier.columns)}. '
                "Correct column or others."
            )
    chosen = [classifier.columns.index(name) for name in names]
    return Objective(
        name=f"{column}, by {classifier.name}" + (f", {', '.join(others)} held" if others else ""),
        unit=f"one standard deviation of {column} as {classifier.name} judges it",
        recipe={"classifier": weights_fingerprint(classifier.patcher), "column": column, "others": others},
        patcher=classifier.patcher,
        _features=lambda pictures: classifier.differentiable(pictures)[:, chosen],
        loss=score_shift_loss,
        moved=lambda edited, plain: edited[:, 0] - plain[:, 0],
    )


def text_objective(clip, clip_vision, text: str, opposite: str) -> Objective:
    wanted, given = (text_embedding(clip, entry) for entry in (text, opposite))
    with torch.inference_mode(False):
        change = (wanted - given)[0].clone()
    if not change.any():
        raise ValueError(f"Both texts say the same to CLIP: got {text!r} and {opposite!r}. Change one of them.")
    weights = [weights_fingerprint(half) for half in (clip.patcher, clip_vision.patcher)]

    def features(pictures: Tensor) -> Tensor:
        run = with_autograd_weights(clip_vision.model, pictures.device)
        embeddings = run(pixel_values=_prepared(pictures, clip_vision), intermediate_output=-2)[2]
        return normalize(require_same_width(embeddings, change.shape[-1]).float(), dim=-1)

    return Objective(
        name=f'from "{opposite}" to "{text}"',
        unit="what it was learnt to be",
        recipe={"clip": weights, "text": text, "opposite": opposite},
        patcher=clip_vision.patcher,
        _features=features,
        loss=lambda edited, plain, spread, end: clip_directional_loss(edited, plain, change.to(edited)),
        moved=lambda edited, plain: (edited - plain) @ change.to(edited),
    )


def _prepared(pictures: Tensor, clip_vision) -> Tensor:
    """As ComfyUI prepares them, but for its rounding to bytes, which has no gradient."""
    size = clip_vision.image_size
    scale = size / min(pictures.shape[2:])
    sides = [round(scale * side) for side in pictures.shape[2:]]
    pictures = interpolate(pictures, sides, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = ((side - size) // 2 for side in sides)
    pictures = pictures[:, :, top : top + size, left : left + size]
    mean, std = (pictures.new_tensor(value).view(3, 1, 1) for value in (clip_vision.image_mean, clip_vision.image_std))
    return (pictures - mean) / std
