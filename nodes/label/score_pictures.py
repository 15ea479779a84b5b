"""Score the pictures of a bank: by a classifier, by a text, or from a file that somebody wrote."""

import torch
from comfy_api.latest import io

from ...directions import Scores, read_scores
from ..host import decoded, score_file, score_files, similarities, text_embedding
from ..ui import CATEGORY, CLIP, CLIP_VISION, DECODE_SIZE, VAE, HSpaceBank, HSpaceClassifier, HSpaceScores

NO_FILE = "none found"


class HSpaceScorePictures(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceScorePictures",
            display_name="Score Pictures",
            category=CATEGORY,
            description="Says how much each picture of a bank has of something: as a classifier judges it, as CLIP "
            "finds it like a text, or as a file says.",
            search_aliases=["annotate", "label", "classify", "attributes", "clip score", "zero-shot", "csv", "json"],
            inputs=[
                HSpaceBank.Input("bank", tooltip="From Sample Bank: the pictures to score. 200 or more."),
                io.DynamicCombo.Input(
                    "source",
                    options=[
                        io.DynamicCombo.Option("classifier", by_classifier_inputs()),
                        io.DynamicCombo.Option("text", by_text_inputs()),
                        io.DynamicCombo.Option("file", from_file_inputs()),
                    ],
                    tooltip="Who scores. classifier: a column of scores for each thing it knows. text: how much more "
                    "a picture looks like one text than like another. file: a CSV or JSON that you wrote.",
                ),
            ],
            outputs=[
                HSpaceScores.Output(
                    display_name="scores",
                    tooltip='To Find Direction (Scores). After a text there is one column, "score".',
                ),
                io.String.Output(display_name="info", tooltip="Lowest, mean and highest score of each column."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, bank, source):
        if source["source"] != "file":
            return ""
        status = score_file(source["file"]).stat()
        return f"{status.st_mtime_ns} {status.st_size}"

    @classmethod
    def execute(cls, bank, source):
        score = {"classifier": score_by_classifier, "text": score_by_text, "file": read_score_file}
        settings = {name: value for name, value in source.items() if name != "source"}
        scores = score[source["source"]](bank, **settings)
        return io.NodeOutput(scores, scores.summary())


def by_classifier_inputs() -> list[io.Input]:
    return [
        VAE,
        HSpaceClassifier.Input("classifier", tooltip="From Load Classifier."),
        DECODE_SIZE,
    ]


def by_text_inputs() -> list[io.Input]:
    return [
        VAE,
        CLIP,
        CLIP_VISION,
        io.String.Input("text", default="a smiling face", tooltip="What a high score looks like."),
        io.String.Input(
            "opposite",
            default="a serious face",
            tooltip="What a low score looks like. The same sentence with one word changed works best.",
        ),
        DECODE_SIZE,
    ]


def from_file_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "file",
            options=list(score_files()) or [NO_FILE],
            tooltip="A .csv or .json file in models/hspace_banks or in a bank's own folder there: a column seed and "
            "one for each thing that was judged. Press R to see new ones.",
        )
    ]


def score_by_classifier(bank, vae, classifier, batch_size) -> Scores:
    """A column for each thing that the classifier knows."""
    values = torch.cat([classifier.scores(images) for images in decoded(bank, vae, batch_size)])
    return Scores(classifier.columns, values, bank.seeds, bank.recipe, f"classifier {classifier.name}")


def score_by_text(bank, vae, clip, clip_vision, text, opposite, batch_size) -> Scores:
    """Likeness to `text` minus likeness to `opposite`, one column."""
    texts = torch.cat([text_embedding(clip, entry) for entry in (text, opposite)])
    values = torch.cat([similarities(clip_vision, images, texts) for images in decoded(bank, vae, batch_size)])
    difference = values[:, :1] - values[:, 1:]
    return Scores(("score",), difference, bank.seeds, bank.recipe, f'CLIP "{text}" against "{opposite}"')


def read_score_file(bank, file) -> Scores:
    return read_scores(score_file(file), bank)


NODES = [HSpaceScorePictures]
