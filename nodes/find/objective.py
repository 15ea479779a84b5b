"""Set the objective that a direction is learnt under: a classifier's score, or a text."""

from comfy_api.latest import io

from ..host import classifier_objective, text_objective
from ..ui import CATEGORY, CLIP, CLIP_VISION, HSpaceClassifier, HSpaceObjective, parse_names


class HSpaceSetObjective(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceSetObjective",
            display_name="Set Objective",
            category=CATEGORY,
            description="Says what Learn Direction is to reach: a score of a classifier that rises while others stay, "
            "or pictures that move as one text moves to another, with CLIP (Kwon et al. 2023).",
            search_aliases=["loss", "reward", "target", "attribute", "clip", "directional loss", "asyrp", "describe"],
            inputs=[
                io.DynamicCombo.Input(
                    "kind",
                    options=[
                        io.DynamicCombo.Option(
                            "classifier",
                            [
                                HSpaceClassifier.Input("classifier", tooltip="From Load Classifier."),
                                io.String.Input("column", default="smile", tooltip="Which score is to rise."),
                                io.String.Input(
                                    "others",
                                    default="",
                                    tooltip='Scores that are to stay, such as "age, glasses". Empty lets all of them '
                                    "go.",
                                ),
                            ],
                        ),
                        io.DynamicCombo.Option(
                            "text",
                            [
                                CLIP,
                                CLIP_VISION,
                                io.String.Input("text", default="a smiling face", tooltip="What the edit leads to."),
                                io.String.Input(
                                    "opposite",
                                    default="a face",
                                    tooltip="What pictures look like without it. The same sentence with one word "
                                    "changed works best.",
                                ),
                            ],
                        ),
                    ],
                    tooltip="What says how well an edit does. classifier: one of its scores, and how far is known. "
                    "text: two sentences, for what no classifier knows.",
                )
            ],
            outputs=[HSpaceObjective.Output(display_name="objective", tooltip="To Learn Direction.")],
        )

    @classmethod
    def execute(cls, kind):
        if kind["kind"] == "text":
            return io.NodeOutput(text_objective(kind["clip"], kind["clip_vision"], kind["text"], kind["opposite"]))
        column, others = kind["column"].strip(), parse_names(kind["others"])
        return io.NodeOutput(classifier_objective(kind["classifier"], column, others))


NODES = [HSpaceSetObjective]
