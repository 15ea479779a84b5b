"""Judges that a direction can be learnt under: they look at pictures in a way that has a gradient."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from ..directions import aimed, directional
from .classifier import Classifier
from .derivatives import with_usable_weights
from .digest import weights_fingerprint
from .inputs import CLIP, CLIP_VISION
from .text import require_halves, text_embedding
from .text_fields import parse_names
from .types import CATEGORY, HSpaceClassifier, HSpaceJudge


@dataclass(frozen=True, eq=False)
class Judge:
    name: str
    """What it wants, in words."""
    unit: str
    """What strength 1 of a direction learnt under it means."""
    recipe: dict
    patchers: tuple[ModelPatcher, ...]
    _look: Callable[[Tensor], Tensor]
    loss: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    """`(n,)` of what it sees in edited pictures and in the same unedited, and the spread of the latter `(m,)` at this
    step and at the end."""

    def look(self, pictures: Tensor) -> Tensor:
        """What it sees, `(n, m)` float32, in pictures `(n, 3, height, width)` in 0..1; wherever it is loaded."""
        device = next(self.patchers[0].model.parameters()).device
        seen = self._look(pictures.float().to(device))
        if not torch.isfinite(seen).all():
            raise ValueError(
                f"The judge ({self.name}) sees NaN or infinity in a picture: got no number to follow. Load it in a "
                "higher precision, or use another one."
            )
        if pictures.requires_grad and not seen.requires_grad:
            raise ValueError(
                f"The judge ({self.name}) prepares its pictures in a way that has no gradient: got none, wanted one to "
                "follow. Use a classifier with a fast image processor, or the CLIP judge."
            )
        return seen.float()


class HSpaceJudgeByClassifier(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceJudgeByClassifier",
            display_name="Judge (Classifier)",
            category=CATEGORY,
            description="Wants one score of a classifier to rise and others to stay: a judge for Learn Direction.",
            search_aliases=["loss", "reward", "guidance", "attribute", "target"],
            inputs=[
                HSpaceClassifier.Input("classifier", tooltip="From Load Classifier."),
                io.String.Input("column", default="smile", tooltip="Which score is to rise."),
                io.String.Input(
                    "others",
                    default="",
                    tooltip='Scores that are to stay, such as "age, glasses". Empty lets all of them go.',
                ),
            ],
            outputs=[HSpaceJudge.Output(display_name="judge", tooltip="To Learn Direction or Choose Edit Window.")],
        )

    @classmethod
    def execute(cls, classifier, column, others):
        return io.NodeOutput(classifier_judge(classifier, column.strip(), parse_names(others)))


class HSpaceJudgeByText(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceJudgeByText",
            display_name="Judge (Text)",
            category=CATEGORY,
            description="Wants pictures to move as one text moves to another, with CLIP: a judge for Learn Direction "
            "that needs no classifier (Kwon et al. 2023).",
            search_aliases=["clip", "directional loss", "prompt", "asyrp", "describe"],
            inputs=[
                CLIP,
                CLIP_VISION,
                io.String.Input("text", default="a smiling face", tooltip="What the edit leads to."),
                io.String.Input(
                    "opposite",
                    default="a face",
                    tooltip="What pictures look like without it. The same sentence with one word changed works best.",
                ),
            ],
            outputs=[HSpaceJudge.Output(display_name="judge", tooltip="To Learn Direction or Choose Edit Window.")],
        )

    @classmethod
    def execute(cls, clip, clip_vision, text, opposite):
        return io.NodeOutput(text_judge(clip, clip_vision, text, opposite))


def classifier_judge(classifier: Classifier, column: str, others: list[str]) -> Judge:
    names = [column, *others]
    for name in names:
        if name not in classifier.columns or names.count(name) > 1:
            raise ValueError(
                f'got "{name}" among {", ".join(names)}; wanted each once, of {", ".join(classifier.columns)}. '
                "Correct column or others."
            )
    chosen = [classifier.columns.index(name) for name in names]
    return Judge(
        name=f"{column}, by {classifier.name}" + (f", {', '.join(others)} held" if others else ""),
        unit=f"one standard deviation of {column} as {classifier.name} judges it",
        recipe={"classifier": weights_fingerprint(classifier.patcher), "column": column, "others": others},
        patchers=(classifier.patcher,),
        _look=lambda pictures: classifier.differentiable(pictures)[:, chosen],
        loss=aimed,
    )


def text_judge(clip, clip_vision, text: str, opposite: str) -> Judge:
    wanted, given = (text_embedding(clip, entry) for entry in (text, opposite))
    with torch.inference_mode(False):
        moved = (wanted - given)[0].clone()
    if not moved.any():
        raise ValueError(f"Both texts say the same to CLIP: got {text!r} and {opposite!r}. Change one of them.")
    weights = [weights_fingerprint(half) for half in (clip.patcher, clip_vision.patcher)]

    def look(pictures: Tensor) -> Tensor:
        run = with_usable_weights(clip_vision.model)
        embeddings = run(pixel_values=_prepared(pictures, clip_vision), intermediate_output=-2)[2]
        return normalize(require_halves(embeddings, moved.shape[-1]).float(), dim=-1)

    return Judge(
        name=f'from "{opposite}" to "{text}"',
        unit="what it was learnt to be",
        recipe={"clip": weights, "text": text, "opposite": opposite},
        patchers=(clip_vision.patcher,),
        _look=look,
        loss=lambda edited, plain, spread, end: directional(edited, plain, moved.to(edited)),
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


NODES = [HSpaceJudgeByClassifier, HSpaceJudgeByText]
