"""Image classifiers on the device that ComfyUI gives them: any of Hugging Face's format, and the demo's own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import comfy.model_management
import comfy.ops
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...demo.attributes import SIZE, AttributeClassifier
from ...directions import brief
from .derivatives import with_autograd_weights
from .listings import DEMO_CLASSIFIER, DEMO_CLASSIFIER_FOLDER, classifier_folder


@dataclass(frozen=True, eq=False)
class Classifier:
    """Scores pictures, on the device that ComfyUI gives it."""

    name: str
    columns: tuple[str, ...]
    patcher: ModelPatcher
    predict: Callable[[Callable, Tensor], Tensor]
    """Scores `(n, m)` that its network gives to pictures `(n, 3, height, width)` in 0..1."""

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """`(n, m)` float32 on the CPU, of images `(n, height, width, 3)` in 0..1."""
        comfy.model_management.load_model_gpu(self.patcher)
        pictures = images[..., :3].movedim(-1, 1).float().clamp(0, 1).to(self.patcher.load_device)
        return self.predict(self.patcher.model[0], pictures).float().cpu()

    def differentiable(self, pictures: Tensor) -> Tensor:
        """`(n, m)` with their graph, of pictures `(n, 3, height, width)` in 0..1 on the device where it is loaded."""
        return self.predict(with_autograd_weights(self.patcher.model[0], pictures.device), pictures)


def load_classifier(name: str) -> Classifier:
    """The classifier of this name in the list. `ValueError` for an unknown one, or one that can't be read."""
    folder = classifier_folder(name)
    return _load_demo() if folder == DEMO_CLASSIFIER_FOLDER else load_hugging_face(folder)


def _load_demo() -> Classifier:
    network = AttributeClassifier.load(DEMO_CLASSIFIER_FOLDER, comfy.ops.disable_weight_init)

    def predict(run: Callable, pictures: Tensor) -> Tensor:
        if pictures.shape[2:] != (SIZE, SIZE):
            pictures = torch.nn.functional.interpolate(pictures, (SIZE, SIZE), mode="bilinear", antialias=True)
        return network.units(run(pictures * 2 - 1))

    return Classifier(DEMO_CLASSIFIER, network.attributes, _managed(network), predict)


def load_hugging_face(folder: Path) -> Classifier:
    """The classifier in `folder`. `ValueError` if it has no safetensors or transformers can't read it."""
    from transformers import AutoImageProcessor, AutoModelForImageClassification  # late: it takes seconds

    if not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"{folder.name} has no safetensors: got {', '.join(sorted(p.name for p in folder.iterdir()))}, wanted "
            "model.safetensors. Other weights may hold code that runs; get or convert the safetensors version."
        )
    try:
        processor = AutoImageProcessor.from_pretrained(  # a folder, no download  # nosec B615
            folder, local_files_only=True, trust_remote_code=False
        )
        network, loading = AutoModelForImageClassification.from_pretrained(  # a folder, no download  # nosec B615
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
        labels = tuple(str(network.config.id2label[i]) for i in range(network.config.num_labels))
    except Exception as error:  # transformers lets through whatever a setting of the wrong kind leads to
        raise ValueError(f"transformers can't load the classifier {folder.name}: {brief(error)}") from error
    if loading["missing_keys"]:  # transformers would let chance decide them
        raise ValueError(
            f"{folder.name} is no whole classifier: got no weights for {', '.join(sorted(loading['missing_keys']))}, "
            "wanted them too. Get a model that was trained to classify pictures."
        )
    network = network.eval().requires_grad_(False)
    to_scores = _scale_of(network.config)

    def predict(run: Callable, pictures: Tensor) -> Tensor:
        levels = pictures * 255  # as from a file: the processor knows how its network wants them
        if not pictures.requires_grad:
            levels = levels.round().byte()
        inputs = processor(images=list(levels), return_tensors="pt")
        return to_scores(run(pixel_values=inputs["pixel_values"].to(pictures.device)).logits)

    return Classifier(folder.name, labels, _managed(network), predict)


def _scale_of(config) -> Callable[[Tensor], Tensor]:
    """From logits to scores, as the image-classification pipeline of transformers does it."""
    if config.problem_type == "regression":
        return lambda logits: logits
    if config.problem_type == "multi_label_classification" or config.num_labels == 1:
        return torch.sigmoid
    return lambda logits: logits.softmax(-1)


def _managed(network: torch.nn.Module) -> ModelPatcher:
    """The network under ComfyUI's memory management."""
    device, offload = comfy.model_management.get_torch_device(), comfy.model_management.text_encoder_offload_device()
    plain = torch.nn.Sequential(network)  # ComfyUI sets .device, which a transformers model lets nobody set
    return ModelPatcher(plain, load_device=device, offload_device=offload)
