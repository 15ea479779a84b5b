"""Objectives that a direction can be learnt under."""

from comfy_api.latest import io

from ..host import classifier_objective, text_objective
from ..ui import CATEGORY, CLIP, CLIP_VISION, HSpaceClassifier, HSpaceObjective, parse_names


class HSpaceJudgeByClassifier(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceJudgeByClassifier",
            display_name="Objective (Classifier)",
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
            outputs=[HSpaceObjective.Output(display_name="objective", tooltip="To Learn Direction.")],
        )

    @classmethod
    def execute(cls, classifier, column, others):
        return io.NodeOutput(classifier_objective(classifier, column.strip(), parse_names(others)))


class HSpaceJudgeByText(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceJudgeByText",
            display_name="Objective (Text)",
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
            outputs=[HSpaceObjective.Output(display_name="objective", tooltip="To Learn Direction.")],
        )

    @classmethod
    def execute(cls, clip, clip_vision, text, opposite):
        return io.NodeOutput(text_objective(clip, clip_vision, text, opposite))


NODES = [HSpaceJudgeByClassifier, HSpaceJudgeByText]
