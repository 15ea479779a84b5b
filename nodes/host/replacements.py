"""Nodes that got another id: workflows saved with the old one are opened with the new one.

`tools/convert.py` reads this table too. An entry names the inputs of the new node in the order of its schema, but not
the optional ones that an old prompt may lack: ComfyUI fails on those, so that only `tools/convert.py` carries them.
"""

from comfy_api.latest import ComfyAPI, io

_WINDOW = "start_percent", "end_percent", "apply_to", "fit"


def _kept(*ids: str, into: str = "") -> list[dict[str, str]]:
    """Inputs that keep their ids, or go `into` a dynamic combo."""
    return [{"old_id": id, "new_id": f"{into}.{id}" if into else id} for id in ids]


def _outputs(*places: tuple[int, int]) -> list[dict[str, int]]:
    """Old and new place of each output. Without a word of them the frontend drops their wires."""
    return [{"old_idx": old, "new_idx": new} for old, new in places]


REPLACED: tuple[io.NodeReplace, ...] = (
    io.NodeReplace(
        "HSpaceSweep",
        "HSpaceExplore",
        old_widget_ids=["seed", "strengths", "first", "rows", "cfg", "picture_size", *_WINDOW],
        input_mapping=[
            *_kept("model", "positive", "negative", "sampler", "sigmas", "latent", "vae"),
            {"new_id": "direction", "old_id": "directions"},
            *_kept("strengths"),
            {"new_id": "rows", "set_value": 1},
            {"new_id": "first_seed", "old_id": "seed"},
            {"new_id": "batch_size", "set_value": 1},  # as it was: some samplers take no more
            *_kept("cfg", "picture_size", *_WINDOW),
            {"new_id": "difference", "set_value": True},
            *_kept("first"),
            {"new_id": "most", "old_id": "rows"},
        ],
        output_mapping=_outputs((0, 0), (1, 1)),
    ),
    io.NodeReplace(
        "HSpaceShowDirection",
        "HSpacePlotSpectrum",
        old_widget_ids=["most"],
        input_mapping=[{"new_id": "direction", "old_id": "directions"}, *_kept("most")],
        output_mapping=_outputs((0, 0), (1, 2)),
    ),
    io.NodeReplace(
        "HSpaceShowDirection",
        "HSpaceCompare",
        input_mapping=[
            {"new_id": "direction", "old_id": "directions.direction0"},
            {"new_id": "others.direction0", "old_id": "directions.direction1"},
        ],
        output_mapping=_outputs((0, 0), (1, 2)),
    ),
    io.NodeReplace(
        "HSpaceScorePictures",
        "HSpaceScoreClassifier",
        old_widget_ids=["batch_size"],
        input_mapping=[
            *_kept("bank"),
            {"new_id": "source", "set_value": "classifier"},
            *_kept("vae", "classifier", "batch_size", into="source"),
        ],
        output_mapping=_outputs((0, 0), (1, 1)),
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
        output_mapping=_outputs((0, 0), (1, 1)),
    ),
    io.NodeReplace(
        "HSpaceScorePictures",
        "HSpaceScoreFile",
        old_widget_ids=["file"],
        input_mapping=[*_kept("bank"), {"new_id": "source", "set_value": "file"}, *_kept("file", into="source")],
        output_mapping=_outputs((0, 0), (1, 1)),
    ),
    io.NodeReplace(
        "HSpaceSetObjective",
        "HSpaceJudgeByClassifier",
        old_widget_ids=["column", "others"],
        input_mapping=[
            {"new_id": "kind", "set_value": "classifier"},
            *_kept("classifier", "column", "others", into="kind"),
        ],
        output_mapping=_outputs((0, 0)),
    ),
    io.NodeReplace(
        "HSpaceSetObjective",
        "HSpaceJudgeByText",
        old_widget_ids=["text", "opposite"],
        input_mapping=[
            {"new_id": "kind", "set_value": "text"},
            *_kept("clip", "clip_vision", "text", "opposite", into="kind"),
        ],
        output_mapping=_outputs((0, 0)),
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
