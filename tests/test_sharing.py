"""What travels with a workflow: where its nodes come from, blueprints, and ids that were given up."""

import asyncio
import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
NOTES = ("Note", "MarkdownNote")


def all_nodes(workflow: dict) -> list[dict]:
    """Those of a workflow and of the subgraphs in it."""
    inside = workflow.get("definitions", {}).get("subgraphs", [])
    return [node for graph in (workflow, *inside) for node in graph["nodes"]]


@pytest.mark.parametrize("path", [*WORKFLOWS, *BLUEPRINTS], ids=lambda path: path.stem)
def test_each_node_says_which_pack_it_comes_from(path):
    for node in all_nodes(json.loads(path.read_text())):
        if node["type"] not in NOTES:
            ours = node["type"].startswith("HSpace") or path in BLUEPRINTS
            assert node["properties"]["cnr_id"] == ("hspace-directions" if ours else "comfy-core"), node["type"]
            assert node["properties"]["ver"], node["type"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_template_has_numbered_groups_a_note_and_a_picture(path):
    workflow = json.loads(path.read_text())
    assert any(group["title"][0].isdigit() for group in workflow["groups"])
    assert [node for node in workflow["nodes"] if node["type"] in NOTES]
    assert path.with_suffix(".jpg").is_file()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_wires_of_a_template_go_from_left_to_right(path):
    workflow = json.loads(path.read_text())
    left = {node["id"]: node["pos"][0] for node in workflow["nodes"]}
    right = {node["id"]: node["pos"][0] + node["size"][0] for node in workflow["nodes"]}  # a wide one may lie below
    for _, origin, _, target, _, _ in workflow["links"]:
        assert left[origin] < right[target], (origin, target)


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_a_blueprint_shows_its_main_widgets_and_says_what_it_does(path):
    blueprint = json.loads(path.read_text())
    (node,) = blueprint["nodes"]
    (subgraph,) = blueprint["definitions"]["subgraphs"]
    assert node["type"] == subgraph["id"]
    assert subgraph["description"] == blueprint["extra"]["BlueprintDescription"]
    inside = {str(each["id"]): [entry["name"] for entry in each["inputs"]] for each in subgraph["nodes"]}
    for id, widget in node["properties"]["proxyWidgets"]:
        assert widget in inside[id]


def test_there_are_two_blueprints():
    assert [path.stem for path in BLUEPRINTS] == ["Edit with a direction", "Find and save"]


@pytest.mark.comfy
def test_ids_that_were_given_up_become_the_new_nodes(pack, nodes_of_pack, monkeypatch):
    """With ComfyUI's own manager of replacements, on which its server calls for every prompt."""
    import server
    from app.node_replace_manager import NodeReplaceManager

    import nodes as comfyui

    replacements = importlib.import_module(f"{pack.__name__}.nodes.host.replacements")
    manager = NodeReplaceManager()
    monkeypatch.setattr(server.PromptServer, "instance", SimpleNamespace(node_replace_manager=manager), raising=False)
    monkeypatch.setattr(comfyui, "NODE_CLASS_MAPPINGS", {**comfyui.NODE_CLASS_MAPPINGS, **vars(nodes_of_pack)})
    asyncio.run(replacements.register_replacements())
    inputs = {"bank": ["2", 0], "vae": ["3", 1], "classifier": ["4", 0], "batch_size": 8}
    prompt = {
        "1": {"class_type": "HSpaceScoreClassifier", "inputs": inputs, "_meta": {"title": "x"}},
        "5": {"class_type": "HSpaceFindFromScores", "inputs": {"scores": ["1", 0]}, "_meta": {"title": "y"}},
    }
    manager.apply_replacements(prompt)
    assert prompt["1"]["class_type"] == "HSpaceScorePictures"
    assert prompt["1"]["inputs"] == {
        "bank": ["2", 0],
        "source": "classifier",
        "source.vae": ["3", 1],
        "source.classifier": ["4", 0],
        "source.batch_size": 8,
    }
    assert prompt["5"]["inputs"] == {"scores": ["1", 0]}


@pytest.mark.comfy
def test_ids_are_given_up_only_for_nodes_that_there_are(pack):
    from test_pack import NODES

    replaced = importlib.import_module(f"{pack.__name__}.nodes.host.replacements").REPLACED
    assert replaced
    assert {entry.new_node_id for entry in replaced} <= set(NODES)
    assert not {entry.old_node_id for entry in replaced} & set(NODES)
