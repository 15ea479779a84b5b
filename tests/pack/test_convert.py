"""What was made before nodes were merged and renamed still opens: workflows by `tools.convert`, files as they are.

tests/data/0.1 was written by the code of that time: its fourteen templates as the page saved them, the prompts that
they became, a bank and a direction.
"""

import asyncio
import copy
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tools.comfyui import ROOT
from tools.convert import converted, read_replacements
from tools.workflow import to_prompt

DATA = ROOT / "tests" / "data" / "0.1"
WORKFLOWS = sorted((DATA / "workflows").glob("*.gz"))
APPENDED = {"HSpaceSweep": ({"first": 1, "most": 9}, 13), "HSpaceShowDirection": ({"most": 7}, 1)}
"""Widgets that came later, with the defaults that the page gives them, and how many the node has in all."""
each_template = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name.removesuffix(".json.gz"))


def read(path: Path) -> dict:
    return json.loads(gzip.decompress(path.read_bytes()))


def prompt_of(path: Path) -> dict:
    return read(DATA / "prompts.json.gz")[path.name.removesuffix(".json.gz")]


def without_titles(prompt: dict) -> dict:
    return {node: {"class_type": entry["class_type"], "inputs": entry["inputs"]} for node, entry in prompt.items()}


@pytest.fixture(scope="module")
def replaced(pack):
    return read_replacements()


@pytest.fixture(scope="module")
def comfyui(host, nodes_of_pack):
    """ComfyUI's nodes with this pack's and the core ones that the templates use, without a server."""
    import comfy_extras.nodes_custom_sampler
    import comfy_extras.nodes_images
    import comfy_extras.nodes_mask
    import comfy_extras.nodes_preview_any

    import nodes

    async def core():
        modules = comfy_extras.nodes_custom_sampler, comfy_extras.nodes_images, comfy_extras.nodes_mask
        extensions = [await module.comfy_entrypoint() for module in modules]
        return [node for extension in extensions for node in await extension.get_node_list()]

    host.register_folders()
    found = {"PreviewAny": comfy_extras.nodes_preview_any.PreviewAny}
    found |= {node.GET_SCHEMA().node_id: node for node in asyncio.run(core())} | vars(nodes_of_pack)
    with pytest.MonkeyPatch.context() as patch:
        for id, node in found.items():
            patch.setitem(nodes.NODE_CLASS_MAPPINGS, id, node)
        yield nodes.NODE_CLASS_MAPPINGS


@pytest.fixture(scope="module")
def object_info(comfyui):
    def info(node):
        if hasattr(node, "GET_NODE_INFO_V1"):
            return node.GET_NODE_INFO_V1()
        return {"input": node.INPUT_TYPES(), "display_name": node.__name__}

    return {id: info(node) for id, node in comfyui.items()}


def refusals(prompt: dict) -> dict:
    """What ComfyUI has against a prompt, but that files are not there."""
    from execution import validate_prompt

    valid, error, _, node_errors = asyncio.run(validate_prompt("id", copy.deepcopy(prompt), None))
    errors = {node: [each for each in found["errors"] if not missing_file(each)] for node, found in node_errors.items()}
    return {node: found for node, found in errors.items() if found} | ({} if valid or node_errors else {"": error})


def missing_file(error: dict) -> bool:
    names = ("image", "direction")
    return error["type"] in ("value_not_in_list", "custom_validation_failed") and (
        error["extra_info"]["input_name"].split(".")[-1] in names
    )


def unknown_inputs(prompt: dict, comfyui: dict) -> dict:
    """Inputs that their node does not have: ComfyUI ignores them without a word."""
    from comfy_api.latest import _io

    def known(node: dict) -> set[str]:
        kind = comfyui[node["class_type"]]
        groups = kind.INPUT_TYPES()
        if hasattr(kind, "GET_SCHEMA"):
            groups = _io.get_finalized_class_inputs(groups, node["inputs"])[0]
        return {name for group in ("required", "optional") for name in groups.get(group, {})}

    found = {id: node["inputs"].keys() - known(node) for id, node in prompt.items()}
    return {id: names for id, names in found.items() if names}


def test_the_fourteen_templates_of_that_time_are_there():
    assert len(WORKFLOWS) == len(read(DATA / "prompts.json.gz")) == 14


@pytest.mark.comfy
@each_template
def test_an_old_prompt_is_one_that_comfyui_takes_today(comfyui, replaced, path):
    prompt = converted(prompt_of(path), replaced)
    assert refusals(prompt) == {}
    assert unknown_inputs(prompt, comfyui) == {}


@pytest.mark.comfy
@each_template
def test_both_forms_of_an_old_workflow_become_the_same(object_info, replaced, path):
    prompt = without_titles(converted(prompt_of(path), replaced))
    if path.name == "Asyrp.json.gz":
        # Without the node that chose them: on the page the widgets' own values, in a prompt those of the paper.
        assert (prompt["10"]["inputs"]["edit_until"], prompt["10"]["inputs"]["boost_from"]) == (0.5, 0.83)
        prompt["10"]["inputs"] |= {"edit_until": 0.552, "boost_from": 0.833}
    page = converted(read(path), replaced)
    for node in page["nodes"]:
        defaults, widgets = APPENDED.get(node["type"], ({}, 0))
        missing = max(0, widgets - len(node["widgets_values"])) if defaults else 0
        node["widgets_values"] += list(defaults.values())[len(defaults) - missing :]
    for node in prompt.values():
        node["inputs"] = {**APPENDED.get(node["class_type"], ({}, 0))[0], **node["inputs"]}
    assert without_titles(to_prompt(page, object_info)) == prompt


@pytest.mark.comfy
def test_comfyui_refuses_old_prompts_that_were_not_converted(comfyui, replaced):
    changed = [path for path in WORKFLOWS if converted(prompt_of(path), replaced) != prompt_of(path)]
    assert len(changed) >= 4
    assert all(refusals(prompt_of(path)) for path in changed)


@pytest.mark.comfy
@each_template
def test_converting_again_changes_nothing(replaced, path):
    for workflow in (read(path), prompt_of(path)):
        once = converted(workflow, replaced)
        assert converted(once, replaced) == once


@pytest.mark.comfy
def test_replacements_lead_to_inputs_that_there_are(comfyui, replaced):
    def inputs(entry):
        return {new["new_id"]: new.get("set_value", ["0", 0]) for new in entry["input_mapping"]}

    filled = {old: {"class_type": entry["new_node_id"], "inputs": inputs(entry)} for old, entry in replaced.items()}
    assert unknown_inputs(filled, comfyui) == {}


@pytest.mark.comfy
def test_what_goes_into_a_choice_stays_with_its_wires(replaced):
    slots = [("vae", "VAE", 1), ("clip", "CLIP", 2), ("clip_vision", "CLIP_VISION", 3), ("bank", "HSPACE_BANK", 4)]
    old = {
        "id": 9, "type": "HSpaceScoreText", "properties": {}, "widgets_values": ["old", "young", 8],
        "inputs": [{"name": name, "type": kind, "link": link} for name, kind, link in slots],
        "outputs": [{"name": "scores", "type": "HSPACE_SCORES", "links": [5]}],
    }  # fmt: skip
    ends = {"id": 1, "type": "Any", "inputs": [{"name": "x", "type": "*", "link": 5}]}
    ends["outputs"] = [{"name": kind, "type": kind, "links": [link]} for _, kind, link in slots]
    links = [[link, 1, i, 9, i, kind] for i, (_, kind, link) in enumerate(slots)]
    graph = {"nodes": [ends, old], "links": [*links, [5, 9, 0, 1, 0, "HSPACE_SCORES"]]}
    # In a subgraph links are objects, and its own inputs and outputs are no nodes.
    names = "id", "origin_id", "origin_slot", "target_id", "target_slot", "type"
    objects = [dict(zip(names, link, strict=True)) for link in graph["links"]]
    objects.append({**objects[0], "id": 6, "origin_id": -10, "target_id": -20})
    inside = {"nodes": [ends, old], "links": objects}
    new = converted({**graph, "definitions": {"subgraphs": [inside]}}, replaced)
    for graph in (new, *new["definitions"]["subgraphs"]):
        node = graph["nodes"][1]
        assert node["widgets_values"] == ["text", "old", "young", 8]
        assert {slot["name"]: slot["link"] for slot in node["inputs"]} == {
            "bank": 4, "source.vae": 1, "source.clip": 2, "source.clip_vision": 3,
        }  # fmt: skip
    assert [link[4] for link in new["links"]] == [1, 2, 3, 0, 0]
    assert new["definitions"]["subgraphs"][0]["links"][-1] == objects[-1]


def test_the_command_writes_beside_the_old_file(tmp_path):
    old = tmp_path / "mine.json"
    old.write_text(json.dumps(prompt_of(DATA / "workflows" / "Learn a direction.json.gz")))
    before = old.read_bytes()
    subprocess.run([sys.executable, "-m", "tools.convert", old], cwd=ROOT, check=True, capture_output=True)
    assert old.read_bytes() == before
    kinds = {node["class_type"] for node in json.loads((tmp_path / "mine (converted).json").read_text()).values()}
    assert "HSpaceSetObjective" in kinds


def test_json_that_is_no_workflow_is_refused():
    for value in ({}, {"a": 1}, {"nodes": 3}):
        with pytest.raises(ValueError, match="no workflow"):
            converted(value, {})


def test_a_bank_of_that_time_opens():
    import directions

    bank = directions.open_bank(DATA / "bank")
    assert bank.seeds == (7, 8)
    assert bank.timesteps.tolist() == [999.0, 500.0, 0.0]
    assert bank.source.family == "DDPM"
    assert bank.h("middle", 0).shape == (2, 4, 2, 2)
    assert bank.latents().shape == (2, 3, 16, 16)
    assert (
        torch.equal(bank.h("middle", 1), bank.h("middle", 1).round()) and bank.h("middle", 1).abs().max() > 0
    )  # whole numbers were written


def test_a_direction_of_that_time_opens():
    import directions

    direction = directions.load_direction(DATA / "smile.safetensors")
    assert (direction.name, direction.method, direction.author) == ("smile", "regression", "somebody")
    assert direction.source.family == "DDPM"
    assert direction.timesteps.tolist() == [999.0, 500.0, 0.0]
