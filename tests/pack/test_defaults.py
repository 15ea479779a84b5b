"""Every node runs with the values its widgets have when it is put down, on the demo model, through a real server."""

import pytest

from tools.comfyui import ROOT

pytestmark = [pytest.mark.server, pytest.mark.slow]

NODES = sorted(path.stem for path in (ROOT / "web" / "docs").glob("*.md"))
SOURCES = {
    "MODEL": ("HSpaceLoadDDPM", 0),
    "VAE": ("HSpaceLoadDDPM", 1),
    "CONDITIONING": ("HSpaceLoadDDPM", 2),
    "LATENT": ("HSpaceLoadDDPM", 3),
    "SAMPLER": ("KSamplerSelect", 0),
    "SIGMAS": ("BasicScheduler", 0),
    "HSPACE_BANK": ("HSpaceSampleBank", 0),
    "HSPACE_DIRECTION": ("HSpaceLoadDirection", 0),
    "HSPACE_DIRECTIONS": ("HSpaceFindPCA", 0),
    "HSPACE_CLASSIFIER": ("HSpaceLoadClassifier", 0),
    "HSPACE_SCORES": ("HSpaceScorePictures", 0),
    "HSPACE_OBJECTIVE": ("HSpaceSetObjective", 0),
}
"""Which node gives a type of input."""
CHOSEN = {
    "BasicScheduler": {"steps": 3},
    "HSpaceSampleBank": {"count": 120},
    "HSpaceLeakage": {"pictures": 8},
    "HSpaceLearnDirection": {"count": 16, "rounds": 4},
    "HSpaceSweep": {"rows": 1},
}
"""Smaller than the defaults, to save time."""
STARTERS = ("smile", "glasses")
NEED_MORE = {
    "HSpaceMarkExamples": "numbers of pictures that somebody has looked at",
    "HSpaceCompareSites": "a model with prompts",
    "HSpaceFindFromExamples": "two banks",
    "HSpaceFindFromPrompts": "a model with prompts",
    "HSpaceFindFromWords": "a model with prompts",
    "HSpaceLearnFromWords": "a model with prompts",
}


def added(prompt: dict, kind: str, object_info: dict) -> str:
    """Put a node with its defaults into `prompt`, with all it needs: its id there."""
    if kind not in prompt:
        inputs = defaults(prompt, object_info[kind]["input"], object_info)
        prompt[kind] = {"class_type": kind, "inputs": inputs | CHOSEN.get(kind, {}), "_meta": {"title": kind}}
    return kind


def defaults(prompt: dict, groups: dict, object_info: dict, prefix: str = "") -> dict:
    inputs = {}
    for id, (type, *rest) in groups.get("required", {}).items():
        name, options = prefix + id, rest[0] if rest else {}
        if type == "COMFY_AUTOGROW_V3":
            template = options["template"]
            places = template.get("names") or [f"{template['prefix']}{i}" for i in range(template["max"])]
            places = places[: template["min"]]
            inputs |= {f"{name}.{place}": [direction(prompt, i), 0] for i, place in enumerate(places)}
        elif type == "COMFY_DYNAMICCOMBO_V3":
            first = options["options"][0]
            inputs |= {name: first["key"], **defaults(prompt, first["inputs"], object_info, f"{name}.")}
        elif isinstance(type, str) and type.partition(",")[0] in SOURCES:  # the first of several types
            source, slot = SOURCES[type.partition(",")[0]]
            inputs[name] = [added(prompt, source, object_info), slot]
        else:
            choices = type if isinstance(type, list) else options.get("options") or [None]
            inputs[name] = options.get("default", choices[0])
    return inputs


def direction(prompt: dict, number: int) -> str:
    """Another starter direction for each place in a list: its id in `prompt`."""
    inputs = {"direction": f"demo {STARTERS[number]}.safetensors"}
    id = f"direction {number}"
    prompt[id] = {"class_type": "HSpaceLoadDirection", "inputs": inputs, "_meta": {"title": id}}
    return id


@pytest.mark.parametrize("kind", [node for node in NODES if node not in NEED_MORE])
def test_a_node_runs_with_its_defaults(server, object_info, kind):
    prompt: dict = {}
    added(prompt, kind, object_info)
    prompt["end"] = {"class_type": "PreviewAny", "inputs": {"source": [kind, 0]}, "_meta": {"title": "end"}}
    server.queue(prompt, {})


def test_from_an_empty_canvas_to_a_first_edit_it_takes_five_nodes_beside_the_sampler(server, object_info):
    prompt: dict = {}
    for kind in ("HSpaceInject", "HSpaceLoadDDPM"):
        added(prompt, kind, object_info)
    inputs = {name: spec[1].get("default") for name, spec in object_info["KSampler"]["input"]["required"].items()}
    inputs |= {"model": ["HSpaceInject", 0], "latent_image": ["HSpaceLoadDDPM", 3]}
    inputs |= {side: ["HSpaceLoadDDPM", 2] for side in ("positive", "negative")}
    inputs |= {"sampler_name": "euler", "scheduler": "normal"}  # combos: the first of their lists
    prompt["sampler"] = {"class_type": "KSampler", "inputs": inputs, "_meta": {"title": "KSampler"}}
    decode = {"samples": ["sampler", 0], "vae": ["HSpaceLoadDDPM", 1]}
    prompt["decode"] = {"class_type": "VAEDecode", "inputs": decode, "_meta": {"title": "VAE Decode"}}
    prompt["show"] = {"class_type": "PreviewImage", "inputs": {"images": ["decode", 0]}, "_meta": {"title": "Preview"}}
    assert len(prompt) - 1 == 5
    (picture,) = server.pictures(server.queue(prompt, {}))
    assert picture.is_file()
