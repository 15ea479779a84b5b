"""Nodes that got another id: workflows saved with the old one are opened with the new one.

`tools/convert.py` reads this table too. Each entry names all inputs of the new node, in the order of its schema.
"""

from comfy_api.latest import ComfyAPI, io


def _kept(*ids: str, into: str = "") -> list[dict[str, str]]:
    """Inputs that keep their ids, or go `into` a dynamic combo."""
    return [{"old_id": id, "new_id": f"{into}.{id}" if into else id} for id in ids]


def _outputs(number: int) -> list[dict[str, int]]:
    """That many outputs, in the order they had. Without a word of them the frontend drops their wires."""
    return [{"old_idx": i, "new_idx": i} for i in range(number)]


REPLACED: tuple[io.NodeReplace, ...] = (
    io.NodeReplace(
        "HSpaceScorePictures",
        "HSpaceScoreClassifier",
        old_widget_ids=["batch_size"],
        input_mapping=[
            *_kept("bank"),
            {"new_id": "source", "set_value": "classifier"},
            *_kept("vae", "classifier", "batch_size", into="source"),
        ],
        output_mapping=_outputs(2),
    ),
    io.NodeReplace(
        "HSpaceScorePictures",
        "HSpaceScoreText",
        old_widget_ids=["text", "opposite", "batch_size"],
        input_mapping=[
            *_kept("bank"),
            {"new_id": "source", "set_value": "text"},
            *_kept("vae", "clip", "clip_vision", "text", "opposite", "batch_size", into="source"),
        ],
        output_mapping=_outputs(2),
    ),
    io.NodeReplace(
        "HSpaceScorePictures",
        "HSpaceScoreFile",
        old_widget_ids=["file"],
        input_mapping=[*_kept("bank"), {"new_id": "source", "set_value": "file"}, *_kept("file", into="source")],
        output_mapping=_outputs(2),
    ),
    io.NodeReplace(
        "HSpaceSetObjective",
        "HSpaceJudgeByClassifier",
        old_widget_ids=["column", "others"],
        input_mapping=[
            {"new_id": "kind", "set_value": "classifier"},
            *_kept("classifier", "column", "others", into="kind"),
        ],
        output_mapping=_outputs(1),
    ),
    io.NodeReplace(
        "HSpaceSetObjective",
        "HSpaceJudgeByText",
        old_widget_ids=["text", "opposite"],
        input_mapping=[
            {"new_id": "kind", "set_value": "text"},
            *_kept("clip", "clip_vision", "text", "opposite", into="kind"),
        ],
        output_mapping=_outputs(1),
    ),
)
"""An entry for each id that was given up. Ids that were shipped are never used again for something else."""


async def register_replacements() -> None:
    """Tell ComfyUI's server of them; nothing without a server."""
    from server import PromptServer  # late: whoever reads the table needs no server

    if not hasattr(PromptServer, "instance"):
        return
    for each in REPLACED:
        await ComfyAPI().node_replacement.register(each)
