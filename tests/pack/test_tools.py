"""Workflow files become the prompts that the frontend would send."""

import pytest

from tools.comfyui import FOLDER, ROOT, link_pack
from tools.install import comfyui_requirements
from tools.workflow import to_prompt

SAMPLE = {
    "required": {
        "model": ["MODEL", {}],
        "seed": ["INT", {"control_after_generate": True}],
        "strength": ["FLOAT", {}],
        "method": ["COMBO", {"options": ["a", "b"]}],
    },
    "optional": {"size": ["INT", {"forceInput": True}], "mode": [["x", "y"], {}]},
}
INFO = {
    "Load": {"display_name": "Load", "input": {"required": {"name": [["m"], {}]}}},
    "Patch": {"display_name": "Patch", "input": {"required": {"model": ["MODEL"]}}},
    "Sample": {"display_name": "Sample", "input": SAMPLE},
}


def node(number, kind, *, mode=0, values=(), link=None):
    inputs = [{"name": "model", "type": "MODEL", "link": link}] if kind != "Load" else []
    outputs = [{"name": "out", "type": "MODEL"}]
    return {"id": number, "type": kind, "mode": mode, "inputs": inputs, "outputs": outputs, "widgets_values": values}


def workflow(*between, values=(7, "fixed", 1.5, "b", "y")):
    """Load (1) -> the nodes between (2, 3, ...) -> Sample."""
    nodes = [node(1, "Load", values=["m"])]
    for number, (kind, mode) in enumerate([*between, ("Sample", 0)], start=2):
        nodes.append(node(number, kind, mode=mode, link=number, values=values if kind == "Sample" else ()))
    links = [[number, number - 1, 0, number, 0, "MODEL"] for number in range(2, len(nodes) + 1)]
    return {"nodes": nodes, "links": links}


def test_widget_values_go_to_their_inputs_and_the_seed_control_is_dropped():
    inputs = to_prompt(workflow(), INFO)["2"]["inputs"]
    assert inputs == {"seed": 7, "strength": 1.5, "method": "b", "mode": "y", "model": ["1", 0]}


def test_links_pass_through_bypassed_nodes_and_reroutes():
    prompt = to_prompt(workflow(("Patch", 4), ("Reroute", 0), ("Patch", 0), ("Reroute", 0)), INFO)
    assert list(prompt) == ["1", "4", "6"]
    assert prompt["4"]["inputs"]["model"] == ["1", 0]
    assert prompt["6"]["inputs"]["model"] == ["4", 0]


def test_a_link_from_a_muted_node_is_no_link():
    assert "model" not in to_prompt(workflow(("Patch", 2)), INFO)["3"]["inputs"]


def test_notes_are_left_out():
    with_note = workflow()
    with_note["nodes"].append(node(9, "MarkdownNote", values=["text"]))
    assert list(to_prompt(with_note, INFO)) == ["1", "2"]


def test_a_linked_widget_keeps_its_place():
    linked = workflow(values=(7, "fixed", 1.5, "b", "y"))
    linked["nodes"][1]["inputs"].append(
        {"name": "strength", "type": "FLOAT", "link": 2, "widget": {"name": "strength"}}
    )
    inputs = to_prompt(linked, INFO)["2"]["inputs"]
    assert inputs["strength"] == ["1", 0] and inputs["method"] == "b"


def test_a_wrong_number_of_widget_values_is_an_error():
    with pytest.raises(ValueError, match="has 2 widget values .* for 5 widgets"):
        to_prompt(workflow(values=(7, "fixed")), INFO)


def test_an_optional_widget_that_was_added_since_is_left_to_the_node():
    assert "mode" not in to_prompt(workflow(values=(7, "fixed", 1.5, "b")), INFO)["2"]["inputs"]


def test_inputs_that_grow_are_sockets_and_the_empty_one_is_left_out():
    template = {"input": {"required": {"model": ["MODEL", {}]}}, "prefix": "model", "min": 1, "max": 50}
    inputs = {"models": ["COMFY_AUTOGROW_V3", {"template": template}], "mode": ["COMBO", {"options": ["x", "y"]}]}
    grown = workflow(("Merge", 0))
    grown["nodes"][1]["inputs"] = [
        {"name": f"models.model{number}", "type": "MODEL", "link": link} for number, link in enumerate((2, 2, None))
    ]
    grown["nodes"][1]["widgets_values"] = ["y"]
    merge = to_prompt(grown, INFO | {"Merge": {"display_name": "Merge", "input": {"required": inputs}}})["2"]
    assert merge["inputs"] == {"mode": "y", "models.model0": ["1", 0], "models.model1": ["1", 0]}


def test_an_unknown_node_is_an_error():
    with pytest.raises(ValueError, match="node 2 is a Missing"):
        to_prompt(workflow(("Missing", 0)), INFO)


def test_the_pack_is_linked_once_and_under_the_name_it_has(tmp_path):
    assert link_pack(tmp_path) == FOLDER == link_pack(tmp_path)
    (tmp_path / "custom_nodes" / FOLDER).rename(tmp_path / "custom_nodes" / "other-name")
    assert link_pack(tmp_path) == "other-name"
    assert (tmp_path / "custom_nodes" / "other-name").resolve() == ROOT


def test_a_folder_in_the_place_of_the_link_is_left_alone(tmp_path):
    (tmp_path / "custom_nodes" / FOLDER).mkdir(parents=True)
    with pytest.raises(ValueError, match="is not this pack"):
        link_pack(tmp_path)


def test_comfyui_is_installed_without_its_own_choice_of_torch(tmp_path):
    (tmp_path / "requirements.txt").write_text(
        "torch\ntorchsde\ntorchvision\ntorchaudio>=2\n\n#optional:\nav>=16 # video\n"
    )
    assert comfyui_requirements(tmp_path) == ["torchsde", "av>=16"]
