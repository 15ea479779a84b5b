"""What travels with a workflow: where its nodes come from, blueprints, and ids that were given up."""

import asyncio
import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools.prompts import RUN, VAE, faces, prompt

ROOT = Path(__file__).resolve().parents[2]
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


@pytest.fixture
def replaced(pack, nodes_of_pack, monkeypatch):
    """What ComfyUI's own manager makes of a node: `replaced("HSpaceOld", {"strength": 1})`."""
    import server
    from app.node_replace_manager import NodeReplaceManager

    import nodes as comfyui

    manager = NodeReplaceManager()
    monkeypatch.setattr(server.PromptServer, "instance", SimpleNamespace(node_replace_manager=manager), raising=False)
    for name, node in vars(nodes_of_pack).items():
        monkeypatch.setitem(comfyui.NODE_CLASS_MAPPINGS, name, node)
    asyncio.run(importlib.import_module(f"{pack.__name__}.nodes.host.replacements").register_replacements())

    def replaced(kind, inputs):
        prompt = {"1": {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}}
        manager.apply_replacements(prompt)
        return prompt["1"]

    return replaced


def entries(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.host.replacements").REPLACED


@pytest.mark.comfy
def test_an_id_that_was_given_up_becomes_a_node_that_has_all_it_needs(pack, nodes_of_pack, replaced):
    for entry in entries(pack):
        old = [change["old_id"] for change in entry.input_mapping if "old_id" in change]
        node = replaced(entry.old_node_id, {id: ["0", 0] for id in old})
        assert node["class_type"] == entry.new_node_id
        schema = getattr(nodes_of_pack, entry.new_node_id).GET_SCHEMA()
        given = {id.partition(".")[0] for id in node["inputs"]}
        assert given <= {each.id for each in schema.inputs}, entry.old_node_id
        assert given >= {each.id for each in schema.inputs if not each.optional}, entry.old_node_id
        assert set(entry.old_widget_ids or ()) <= set(old), entry.old_node_id
        assert {change["new_idx"] for change in entry.output_mapping} <= set(range(len(schema.outputs)))


@pytest.mark.comfy
def test_explore_becomes_a_sweep_of_one_seed_over_the_set(replaced):
    wires = ("model", "positive", "negative", "sampler", "sigmas", "latent", "vae", "directions")
    window = {"start_percent": 0.1, "end_percent": 0.9, "apply_to": "positive", "fit": "exact"}
    old = {name: [name, 0] for name in wires} | window
    old |= {"seed": 5, "strengths": "0, 2", "first": 3, "rows": 6, "cfg": 7.0, "picture_size": 160}
    assert replaced("HSpaceExplore", old)["inputs"] == {
        **{name: [name, 0] for name in wires[:-1]}, **window, "direction": ["directions", 0], "strengths": "0, 2",
        "rows": 1, "first_seed": 5, "batch_size": 1, "cfg": 7.0, "picture_size": 160, "difference": True, "first": 3,
        "most": 6,
    }  # fmt: skip


@pytest.mark.server
def test_a_prompt_of_nodes_that_were_given_up_runs_and_its_outputs_arrive(server):
    """As API users keep them, on ComfyUI's own server."""
    picked = {n: {"directions": ["find", 0], "number": n, "name": f"d{n}", "flip": False} for n in (1, 2)}
    window = {"start_percent": 0.0, "end_percent": 1.0, "apply_to": "both", "fit": "resize"}
    nodes = faces("euler", 2) | {
        "bank": (
            "HSpaceSampleBank",
            {**RUN, "name": "old", "count": 4, "first_seed": 0, "batch_size": 4, "branch": "positive"},
        ),
        "find": ("HSpaceFindPCA", {"bank": ["bank", 0], "components": 2, "span": "each timestep"}),
        "one": ("HSpacePickDirection", picked[1]),
        "two": ("HSpacePickDirection", picked[2]),
        "explore": (
            "HSpaceExplore",
            {**RUN, **window, "vae": VAE, "directions": ["find", 0], "seed": 5, "strengths": "-1, 0, 1", "first": 1,
             "rows": 2, "picture_size": 64},
        ),
        "spectrum": ("HSpacePlotSpectrum", {"directions": ["find", 0], "most": 2}),
        "compare": ("HSpaceCompare", {"directions.direction0": ["one", 0], "directions.direction1": ["two", 0]}),
        "pictures": ("PreviewImage", {"images": ["explore", 1]}),
        "numbers": ("PreviewAny", {"source": ["spectrum", 1]}),
        "cosines": ("PreviewAny", {"source": ["compare", 1]}),
    }  # fmt: skip
    outputs = server.queue(prompt(nodes), {})
    assert len(outputs["pictures"]["images"]) == 2 * 3
    assert outputs["numbers"]["text"][0].startswith("curve,timestep,explained variance")
    assert outputs["cosines"]["text"][0].startswith(",d1,d2")
    for sheet in ("explore", "spectrum", "compare"):
        assert len(outputs[sheet]["images"]) == 1


@pytest.mark.comfy
def test_ids_are_given_up_only_for_nodes_that_there_are(pack):
    from test_pack import NODES

    assert {entry.new_node_id for entry in entries(pack)} <= set(NODES)
    assert not {entry.old_node_id for entry in entries(pack)} & set(NODES)
    assert {entry.old_node_id for entry in entries(pack)} >= {"HSpaceExplore", "HSpaceScoreText", "HSpaceCompare"}
