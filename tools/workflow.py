"""ComfyUI's workflow files (version 0.4, what the frontend saves) as prompts, which its server runs.

The frontend does this in the browser. Here it is done without one: widget values are matched with a node's inputs by
their order in `/object_info`, muted and bypassed nodes, reroutes and notes are resolved. No subgraphs, no primitives.
"""

from typing import Any

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
NOTES = ("Note", "MarkdownNote")
MUTED, BYPASSED = 2, 4

Json = dict[str, Any]


def to_prompt(workflow: Json, object_info: Json) -> Json:
    """The prompt of a workflow: `{node id: {class_type, inputs, _meta}}`."""
    graph = Graph(workflow)
    prompt = {}
    for node in workflow["nodes"]:
        kind = node["type"]
        if kind in NOTES or kind == "Reroute" or node["mode"] in (MUTED, BYPASSED):
            continue
        if kind not in object_info:
            raise ValueError(f"node {node['id']} is a {kind}, which this ComfyUI does not have")
        inputs = widget_values(node, object_info[kind]) | graph.linked_inputs(node)
        title = node.get("title") or object_info[kind]["display_name"] or kind
        prompt[str(node["id"])] = {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}
    return prompt


def widget_values(node: Json, info: Json) -> Json:
    """The values of a node's widgets by input name; a widget with a link keeps its place in the list."""
    values = node.get("widgets_values") or []
    names = widget_names(info["input"], values)
    added = names[len(values) :]  # after the workflow was saved: the node's default
    if len(values) > len(names) or not set(added) <= info["input"].get("optional", {}).keys():
        raise ValueError(
            f"node {node['id']} ({node['type']}) has {len(values)} widget values {values} for {len(names)} widgets "
            f"{names}: open the workflow in the frontend and save it again"
        )
    return {name: value for name, value in zip(names, values, strict=False) if name}


def widget_names(inputs: Json, values: list[Any], prefix: str = "") -> list[str | None]:
    """The widgets of `inputs` in their order, None for one that the frontend adds. A dynamic combo is followed by those
    of the option that it has in `values`."""
    names: list[str | None] = []
    for id, (kind, *rest) in [*inputs.get("required", {}).items(), *inputs.get("optional", {}).items()]:
        options, name = rest[0] if rest else {}, prefix + id
        if kind == DYNAMIC_COMBO:
            chosen = values[len(names) : len(names) + 1]
            names.append(name)
            for option in options["options"]:
                if [option["key"]] == chosen:
                    names += widget_names(option["inputs"], values[len(names) :], f"{name}.")
        elif is_widget(kind, options):
            names.append(name)
            # The frontend adds a widget after a seed (fixed, increment, ...) and one after a file chooser (upload).
            is_seed = kind == "INT" and id in ("seed", "noise_seed")
            if options.get("control_after_generate", is_seed) or options.get("image_upload"):
                names.append(None)
    return names


def is_widget(kind: str | list[Any], options: Json) -> bool:
    return (isinstance(kind, list) or kind in WIDGETS) and not options.get("forceInput")


class Graph:
    """The links of a workflow, followed back to the node that really makes the value."""

    def __init__(self, workflow: Json):
        self.nodes = {node["id"]: node for node in workflow["nodes"]}
        self.origins = {link[0]: (link[1], link[2]) for link in workflow["links"]}

    def linked_inputs(self, node: Json) -> Json:
        origins = {slot["name"]: self.origin(slot["link"]) for slot in node.get("inputs", [])}
        return {name: origin for name, origin in origins.items() if origin}

    def origin(self, link: int | None) -> list[Any] | None:
        """`[node id, output slot]` behind a link; None if it leads nowhere or to a muted node."""
        if link is None:
            return None
        node_id, slot = self.origins[link]
        node = self.nodes[node_id]
        if node["mode"] == MUTED:
            return None
        if node["type"] == "Reroute":
            return self.origin(node["inputs"][0]["link"])
        if node["mode"] == BYPASSED:
            return self.origin(bypassed_link(node, slot))
        return [str(node_id), slot]


def bypassed_link(node: Json, slot: int) -> int | None:
    """The link that a bypassed node passes on: of the input in the same place if the type fits, else of the first."""
    inputs = node.get("inputs", [])
    kind = node["outputs"][slot]["type"]
    fitting = [entry["link"] for entry in inputs[slot : slot + 1] + inputs if entry["type"] == kind]
    return fitting[0] if fitting else None
