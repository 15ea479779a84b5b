"""Score the pictures of a bank: by a classifier, or from a file that somebody wrote."""

import torch
from comfy_api.latest import io

from ...directions import Scores, read_scores
from ..host import decoded, score_file, score_files
from ..ui import CATEGORY, DECODE_SIZE, HSpaceBank, HSpaceClassifier, HSpaceScores

NO_FILE = "none found"


class HSpaceScoreClassifier(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceScoreClassifier",
            display_name="Score Pictures (Classifier)",
            category=CATEGORY,
            description="Lets an image classifier judge every picture of a bank: one column of scores for each thing "
            "that it knows.",
            search_aliases=["annotate", "label", "classify", "attributes", "judge"],
            inputs=[
                HSpaceBank.Input("bank", tooltip="From Sample Bank: the pictures to judge."),
                io.Vae.Input("vae", tooltip="Decodes the pictures."),
                HSpaceClassifier.Input("classifier", tooltip="From Load Classifier."),
                DECODE_SIZE,
            ],
            outputs=[
                HSpaceScores.Output(display_name="scores", tooltip="To Find Direction (Scores)."),
                io.String.Output(display_name="info", tooltip="Lowest, mean and highest score of each column."),
            ],
        )

    @classmethod
    def execute(cls, bank, vae, classifier, batch_size):
        values = torch.cat([classifier.scores(images) for images in decoded(bank, vae, batch_size)])
        scores = Scores(classifier.columns, values, bank.seeds, bank.recipe, f"classifier {classifier.name}")
        return io.NodeOutput(scores, scores.summary())


class HSpaceScoreFile(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceScoreFile",
            display_name="Score Pictures (File)",
            category=CATEGORY,
            description="Reads scores that a person or another program wrote: a CSV with the columns seed and one for "
            "each thing that was judged, or JSON with the same, anywhere in models/hspace_banks.",
            search_aliases=["csv", "json", "labels", "annotations", "spreadsheet"],
            inputs=[
                HSpaceBank.Input("bank", tooltip="From Sample Bank: the pictures that the file is about."),
                io.Combo.Input(
                    "file",
                    options=list(score_files()) or [NO_FILE],
                    tooltip="A .csv or .json file in models/hspace_banks or in a bank's own folder there. Press R to "
                    "see new ones.",
                ),
            ],
            outputs=[
                HSpaceScores.Output(display_name="scores", tooltip="To Find Direction (Scores)."),
                io.String.Output(display_name="info", tooltip="Lowest, mean and highest score of each column."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, bank, file):
        status = score_file(file).stat()
        return f"{status.st_mtime_ns} {status.st_size}"

    @classmethod
    def execute(cls, bank, file):
        scores = read_scores(score_file(file), bank)
        return io.NodeOutput(scores, scores.summary())


NODES = [HSpaceScoreClassifier, HSpaceScoreFile]
