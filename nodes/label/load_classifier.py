"""Load Classifier: what judges pictures."""

from comfy_api.latest import io

from ..host import DEMO_CLASSIFIER, classifier_folders, load_classifier
from ..ui import CATEGORY, HSpaceClassifier


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
                    default=DEMO_CLASSIFIER,
                    tooltip="A folder with config.json, preprocessor_config.json and model.safetensors. The demo's "
                    "judges the ten attributes of the demo faces.",
                )
            ],
            outputs=[
                HSpaceClassifier.Output(
                    display_name="classifier", tooltip="To Score Pictures, Set Objective or Measure Leakage."
                ),
                io.String.Output(display_name="columns", tooltip="The names of what it judges."),
            ],
        )

    @classmethod
    def execute(cls, classifier):
        loaded = load_classifier(classifier)
        return io.NodeOutput(loaded, ", ".join(loaded.columns))


NODES = [HSpaceLoadClassifier]
