"""Workflows of before nodes were merged and renamed, as this version opens them: `python -m tools.convert OLD.json ...`

Each is written beside the old one as "OLD (converted).json", in its form: the page's own or the API's. The table is
nodes/host/replacements.py, which ComfyUI's server follows for the API's form. The page's Replace button follows it too,
but not into a dynamic combo; and neither renames an input of a node that stayed.
"""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

from tools.comfyui import ROOT, find_comfyui

RENAMED = {"HSpaceLearnDirection": {"judge": "objective"}}
"""Inputs that got another id, by the node they are of."""
RETYPED = {"HSPACE_JUDGE": "HSPACE_OBJECTIVE"}
OPTIONAL = {
    "HSpaceExplore": {"mask": "mask"},
    "HSpaceCompare": {f"directions.direction{i}": f"others.direction{i - 1}" for i in range(2, 50)},
}
"""Inputs, old and new, that an old workflow may lack: ComfyUI itself would fail on them."""
DROPPED = {"HSpaceChooseEditWindow": (0.5, 0.83)}
"""Nodes that have gone, with what takes the place of each output. A widget on the page has a value of its own."""

LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
Json = dict[str, Any]


def read_replacements() -> Json:
    """ComfyUI's description of each replacement by the id that was given up. Loads none of the pack's nodes."""
    comfyui = find_comfyui()
    if comfyui is None:
        raise ValueError("no ComfyUI found: run `make install` or set COMFYUI_PATH")
    sys.path.insert(0, str(comfyui))
    table = runpy.run_path(str(ROOT / "nodes" / "host" / "replacements.py"))["REPLACED"]
    replaced = {entry.old_node_id: entry.as_dict() for entry in table}
    for id, names in OPTIONAL.items():
        replaced[id]["input_mapping"] += [{"old_id": old, "new_id": new} for old, new in names.items()]
    return replaced


def converted(workflow: Json, replaced: Json) -> Json:
    """The workflow with today's ids, as a new value. `ValueError` if it is neither of the page's form nor the API's."""
    workflow = json.loads(json.dumps(workflow))
    if isinstance(workflow.get("nodes"), list):
        for graph in (workflow, *workflow.get("definitions", {}).get("subgraphs", [])):
            convert_graph(graph, replaced)
        return workflow
    if workflow and all(isinstance(node, dict) and "class_type" in node for node in workflow.values()):
        return convert_prompt(workflow, replaced)
    raise ValueError("got JSON that is no workflow, wanted what Save or Export (API) of ComfyUI's page writes")


def convert_prompt(prompt: Json, replaced: Json) -> Json:
    kinds = {id: node["class_type"] for id, node in prompt.items()}
    for id, node in prompt.items():
        values = {name: linked_value(value, kinds, replaced) for name, value in node["inputs"].items()}
        values = {name: value for name, value in values.items() if value is not None}
        entry = replaced.get(kinds[id])
        if entry:
            node["class_type"] = entry["new_node_id"]
            values = {
                new["new_id"]: new.get("set_value", values.get(new.get("old_id")))
                for new in entry["input_mapping"]
                if "set_value" in new or new["old_id"] in values
            }
        names = RENAMED.get(node["class_type"], {})
        node["inputs"] = {names.get(name, name): value for name, value in values.items()}
    return {id: node for id, node in prompt.items() if kinds[id] not in DROPPED}


def linked_value(value: Any, kinds: dict[str, str], replaced: Json) -> Any:
    """An input of a prompt, if it is a wire from where the output is now; None if that has gone."""
    if not (isinstance(value, list) and len(value) == 2 and value[0] in kinds):
        return value
    (origin, slot), kind = value, kinds[value[0]]
    if kind in DROPPED:
        return dict(enumerate(DROPPED[kind])).get(slot)
    slot = new_slots(replaced[kind]).get(slot) if kind in replaced else slot
    return None if slot is None else [origin, slot]


def new_slots(entry: Json) -> dict[int, int]:
    return {each["old_idx"]: each["new_idx"] for each in entry["output_mapping"] or []}


def convert_graph(graph: Json, replaced: Json) -> None:
    """In place: a graph of the page's form, or a subgraph."""
    graph["nodes"] = [node for node in graph["nodes"] if node["type"] not in DROPPED]
    for node in graph["nodes"]:
        entry = replaced.get(node["type"])
        if entry:
            convert_node(node, entry)
        names = RENAMED.get(node["type"], {})
        for slot in node.get("inputs", []):
            slot["name"] = names.get(slot["name"], slot["name"])
            slot["type"] = RETYPED.get(slot["type"], slot["type"])
    graph["links"] = wires(graph)


def convert_node(node: Json, entry: Json) -> None:
    """In place: another type, its inputs, widgets and outputs in the order of the new node."""
    slots = {slot["name"]: slot for slot in node.get("inputs", [])}
    values = dict(zip(entry["old_widget_ids"] or [], node.get("widgets_values") or [], strict=False))
    node |= {"type": entry["new_node_id"], "inputs": [], "widgets_values": []}
    node.get("properties", {})["Node name for S&R"] = node["type"]
    for new in entry["input_mapping"]:
        id, old = new["new_id"], new.get("old_id")
        node["widgets_values"] += [new.get("set_value", values.get(old))] if "set_value" in new or old in values else []
        if old in slots:
            widget = {"widget": {"name": id}} if "widget" in slots[old] else {"label": id.rpartition(".")[2]}
            node["inputs"].append({"name": id, "type": slots[old]["type"], "link": slots[old]["link"], **widget})
    outputs = {new: node["outputs"][old] for old, new in new_slots(entry).items() if old < len(node["outputs"])}
    unknown = {"name": "", "type": "*", "links": []}
    node["outputs"] = [outputs.get(slot, unknown) for slot in range(max(outputs, default=-1) + 1)]


def wires(graph: Json) -> list[Any]:
    """The links whose both ends are still there, from and to where these are now; the others leave their slots."""
    sides = ("origin", ends(graph, "outputs")), ("target", ends(graph, "inputs"))
    kept, there = [], set()
    for link in graph["links"]:
        wire = dict(zip(LINK, link, strict=True)) if isinstance(link, list) else link
        for side, slots in sides:
            if wire[f"{side}_id"] >= 0:  # a subgraph's own inputs and outputs are no nodes
                wire[f"{side}_slot"] = slots.get(wire["id"])
        wire["type"] = RETYPED.get(wire["type"], wire["type"])
        if None not in (wire["origin_slot"], wire["target_slot"]):
            kept.append(list(wire.values()) if isinstance(link, list) else wire)
            there.add(wire["id"])
    for node in graph["nodes"]:
        for slot in node.get("inputs", []):
            slot["link"] = slot["link"] if slot["link"] in there else None
        for slot in node.get("outputs", []):
            slot["links"] = slot["links"] and [id for id in slot["links"] if id in there]
            slot["type"] = RETYPED.get(slot["type"], slot["type"])
    return kept


def ends(graph: Json, side: str) -> dict[int, int]:
    """On which slot each link ends, by its id."""
    slots = [(i, slot) for node in graph["nodes"] for i, slot in enumerate(node.get(side, []))]
    return {id: i for i, slot in slots for id in (slot["links"] or [] if side == "outputs" else [slot["link"]])}


def main() -> str | None:
    replaced = read_replacements()
    for old in map(Path, sys.argv[1:]):
        new = old.with_name(f"{old.stem} (converted).json")
        new.write_text(json.dumps(converted(json.loads(old.read_text()), replaced), indent=2))
        print(new)
    return None if sys.argv[1:] else __doc__


if __name__ == "__main__":
    sys.exit(main())
