"""Pictures of every node for its help page, as the frontend draws it after a run: `python -m tools.portraits`.

Each node is taken from the first workflow it is in, with what it shows there; the others as they are put down.
"""

import json
from io import BytesIO

from PIL import Image

from tools.browser import SHOW, TWO_FRAMES, Frontend
from tools.comfyui import ROOT
from tools.demo import OUTPUT
from tools.server import Server

PICTURES = ROOT / "web" / "docs" / "images"
MARGIN, CORNER = 12, (120, 90)
"""Around the node in the picture, and where it is put in the page, clear of the page's own bars."""
PUT_DOWN = "(kind) => { app.graph.clear(); app.graph.add(LiteGraph.createNode(kind)) }"
PLACE = "(id) => { const node = app.graph.getNodeById(id); return [...node.pos, ...node.size] }"
NEWEST_PICTURES_LOADED = "() => [...document.querySelectorAll('[data-node-id] img')].every((image) => image.complete)"


def portrait(frontend: Frontend, id: int) -> Image.Image:
    """The node with `id` in the open graph, drawn by Nodes 2.0."""
    x, y, width, height = frontend.page.evaluate(PLACE, id)
    left, top = CORNER
    frontend.page.set_viewport_size({"width": round(width) + 500, "height": round(height) + 400})
    frontend.page.evaluate(SHOW, [[left - x, top + 40 - y], 1.0])
    frontend.page.wait_for_function(NEWEST_PICTURES_LOADED)
    frontend.page.evaluate(TWO_FRAMES)
    box = frontend.page.locator(f'[data-node-id="{id}"]').bounding_box()
    clip = {
        "x": box["x"] - MARGIN,
        "y": box["y"] - MARGIN,
        "width": box["width"] + 2 * MARGIN,
        "height": box["height"] + 2 * MARGIN,
    }
    return Image.open(BytesIO(frontend.page.screenshot(clip=clip))).convert("RGB")


def main() -> None:
    kinds = sorted(path.stem for path in (ROOT / "web" / "docs").glob("*.md"))
    PICTURES.mkdir(exist_ok=True)
    with Server(OUTPUT) as server, Frontend(server.url) as frontend:
        frontend.set_nodes2(True)
        waiting = set(kinds)
        for path in sorted((ROOT / "example_workflows").glob("*.json")):
            workflow = json.loads(path.read_text())
            here = {node["type"]: node["id"] for node in reversed(workflow["nodes"]) if node["type"] in waiting}
            if here:
                frontend.load(workflow, path.stem)
                frontend.run(seconds=600)
            for kind, id in here.items():
                keep(portrait(frontend, id), kind)
            waiting -= set(here)
        for kind in sorted(waiting):
            frontend.page.evaluate(PUT_DOWN, kind)
            frontend.page.evaluate(TWO_FRAMES)
            keep(portrait(frontend, frontend.workflow()["nodes"][0]["id"]), kind)
        frontend.set_nodes2(False)


def keep(picture: Image.Image, kind: str) -> None:
    picture.save(PICTURES / f"{kind}.jpg", quality=88)
    print(f"{kind}: {picture.width}x{picture.height}", flush=True)


if __name__ == "__main__":
    main()
