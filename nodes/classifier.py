"""Image classifiers that judge pictures: any of Hugging Face's format, and the demo's own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import comfy.model_management
import comfy.ops
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from torch import Tensor

from ..demo.attributes import SIZE, AttributeClassifier
from ..directions.untrusted import brief
from .derivatives import with_usable_weights
from .folders import CLASSIFIERS, PACK
from .types import CATEGORY, HSpaceClassifier

DEMO = "demo attributes (built in)"
DEMO_FOLDER = PACK / "demo" / "classifier"


@dataclass(frozen=True, eq=False)
class Classifier:
    """A judge of pictures, on the device that ComfyUI gives it."""

    name: str
    columns: tuple[str, ...]
    patcher: ModelPatcher
    judge: Callable[[Callable, Tensor], Tensor]
    """Scores `(n, m)` that its network gives to pictures `(n, 3, height, width)` in 0..1."""

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """`(n, m)` float32 on the CPU, of images `(n, height, width, 3)` in 0..1."""
        comfy.model_management.load_model_gpu(self.patcher)
        pictures = images[..., :3].movedim(-1, 1).float().clamp(0, 1).to(self.patcher.load_device)
        return self.judge(self.patcher.model[0], pictures).float().cpu()

    def differentiable(self, pictures: Tensor) -> Tensor:
        """`(n, m)` with their graph, of pictures `(n, 3, height, width)` in 0..1 on the device where it is loaded."""
        return self.judge(with_usable_weights(self.patcher.model[0]), pictures)


class HSpaceLoadClassifier(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceLoadClassifier",
            display_name="Load Classifier",
            category=CATEGORY,
            description="Loads an image classifier that judges pictures, such as how much a face smiles: a Hugging "
            "Face image-classification folder from models/hspace_classifiers, or the demo's own.",
            search_aliases=["image classification", "attribute classifier", "judge", "celeba", "hugging face"],
            inputs=[
                io.Combo.Input(
                    "classifier",
                    options=list(classifier_folders()),
                    default=DEMO,
                    tooltip="A folder with config.json, preprocessor_config.json and model.safetensors. The demo's "
                    "judges the ten attributes of the demo faces.",
                )
            ],
            outputs=[
                HSpaceClassifier.Output(display_name="classifier", tooltip="To Score Pictures or Measure Leakage."),
                io.String.Output(display_name="columns", tooltip="The names of what it judges."),
            ],
        )

    @classmethod
    def execute(cls, classifier):
        folders = classifier_folders()
        if classifier not in folders:
            raise ValueError(
                f'got "{classifier}", wanted one of: {", ".join(folders)}. Put its folder into '
                "models/hspace_classifiers and choose it from the list."
            )
        loaded = load_demo() if classifier == DEMO else load_hugging_face(folders[classifier])
        return io.NodeOutput(loaded, ", ".join(loaded.columns))


def classifier_folders() -> dict[str, Path]:
    """Folder of each classifier by the name in the list."""
    found = {DEMO: DEMO_FOLDER}
    for root in map(Path, folder_paths.get_folder_paths(CLASSIFIERS)):
        for config in filter(Path.is_file, sorted(root.glob("*/config.json"))):
            found.setdefault(config.parent.name, config.parent)
    return found


def load_demo() -> Classifier:
    network = AttributeClassifier.load(DEMO_FOLDER, comfy.ops.disable_weight_init)

    def judge(run: Callable, pictures: Tensor) -> Tensor:
        if pictures.shape[2:] != (SIZE, SIZE):
            pictures = torch.nn.functional.interpolate(pictures, (SIZE, SIZE), mode="bilinear", antialias=True)
        return network.units(run(pictures * 2 - 1))

    return Classifier(DEMO, network.attributes, managed(network), judge)


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
    to_scores = scale_of(network.config)

    def judge(run: Callable, pictures: Tensor) -> Tensor:
        levels = pictures * 255  # as from a file: the processor knows how its network wants them
        if not pictures.requires_grad:
            levels = levels.round().byte()
        inputs = processor(images=list(levels), return_tensors="pt")
        return to_scores(run(pixel_values=inputs["pixel_values"].to(pictures.device)).logits)

    return Classifier(folder.name, labels, managed(network), judge)


def scale_of(config) -> Callable[[Tensor], Tensor]:
    """From logits to scores, as the image-classification pipeline of transformers does it."""
    if config.problem_type == "regression":
        return lambda logits: logits
    if config.problem_type == "multi_label_classification" or config.num_labels == 1:
        return torch.sigmoid
    return lambda logits: logits.softmax(-1)


def managed(network: torch.nn.Module) -> ModelPatcher:
    """The network under ComfyUI's memory management."""
    device, offload = comfy.model_management.get_torch_device(), comfy.model_management.text_encoder_offload_device()
    plain = torch.nn.Sequential(network)  # ComfyUI sets .device, which a transformers model lets nobody set
    return ModelPatcher(plain, load_device=device, offload_device=offload)


NODES = [HSpaceLoadClassifier]
