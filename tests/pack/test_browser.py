"""The templates in ComfyUI's own page: opened, run, saved and edited as a user in a browser does."""

import json
from pathlib import Path

import pytest
from drawn import require_drawn
from PIL import Image
from tiers import require_browser

from tools.comfyui import ROOT
from tools.server import Server
from tools.workflow import to_prompt

require_browser()

pytestmark = [pytest.mark.server, pytest.mark.browser]

WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))
EDIT = ROOT / "example_workflows" / "Edit a face with a saved direction.json"
EMPTY = {"nodes": [], "links": [], "groups": [], "version": 0.4}
SCREENSHOTS = ROOT / "output" / "browser"
stem = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    # Beside a browser on two cores a second thread waits more than it works: 5 s a run against 8 to 120.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        with Server(tmp_path_factory.mktemp("output"), base=tmp_path_factory.mktemp("base")) as server:
            yield server


def without_titles(prompt):
    return {node: {"class_type": entry["class_type"], "inputs": entry["inputs"]} for node, entry in prompt.items()}


@pytest.fixture
def one_face(frontend):
    """The page with the workflow that draws one edited face, without its sheet of many."""
    frontend.set_nodes2(False)
    frontend.load(json.loads(EDIT.read_text()), "one face")
    frontend.select("Sweep Directions", "Save the sheet")
    frontend.page.keyboard.press("Delete")
    return frontend


def picture(server, outputs) -> Path:
    """The one file that a run has saved."""
    (path,) = [path for path in server.pictures(outputs) if path.is_relative_to(server.folders["output"])]
    return path


def run(server, frontend) -> Path:
    """Press Run, after the server has forgotten what it had: nothing comes from its cache."""
    forget = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    server.queue(forget, {})
    files = set(server.folders["output"].rglob("*.png"))
    prompt_id = frontend.run()
    path = picture(server, server.outputs(prompt_id))
    assert path not in files
    return path


def pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


@stem
def test_a_template_opens_from_the_template_browser_as_the_prompt_of_its_file(server, object_info, frontend, path):
    frontend.set_nodes2(False)
    frontend.open_template(server.folder, path.stem)
    assert without_titles(frontend.prompt()) == without_titles(to_prompt(json.loads(path.read_text()), object_info))
    frontend.screenshot(SCREENSHOTS / f"{path.stem} classic.png")
    assert frontend.complaints() == []


@stem
def test_a_template_opens_with_nodes_2_as_the_prompt_of_its_file(object_info, frontend, path):
    workflow = json.loads(path.read_text())
    frontend.load(workflow, path.stem)
    frontend.set_nodes2(True)
    assert without_titles(frontend.prompt()) == without_titles(to_prompt(workflow, object_info))
    frontend.screenshot(SCREENSHOTS / f"{path.stem} nodes2.png")
    assert frontend.complaints() == []


def test_a_missing_node_is_complained_about(frontend):
    workflow = json.loads(EDIT.read_text())
    workflow["nodes"][2]["type"] = "HSpaceNoSuchNode"
    frontend.load(workflow, "missing")
    frontend.page.get_by_test_id("error-overlay").wait_for()
    assert len(frontend.complaints()) == 1
    frontend.load(json.loads(EDIT.read_text()), "not missing")
    frontend.page.get_by_test_id("error-overlay").wait_for(state="hidden")


def test_run_shows_the_pictures_on_the_nodes_in_both_renderings(server, frontend):
    frontend.set_nodes2(False)
    frontend.load(json.loads(EDIT.read_text()), EDIT.stem)
    saving = [node for node, entry in frontend.prompt().items() if entry["class_type"] == "SaveImage"]
    frontend.run()
    for nodes2, rendering in ((False, "classic"), (True, "nodes2")):
        frontend.set_nodes2(nodes2)
        frontend.wait_for_pictures(*saving)
        frontend.screenshot(SCREENSHOTS / f"{EDIT.stem} run {rendering}.png")
    assert frontend.complaints() == []


SHORTER = """() => {
    const most = {steps: 5, rounds: 2, count: 128, pairs: 1, pictures: 2, rows: 2}
    for (const widget of app.graph.nodes.flatMap((node) => node.widgets ?? []))
        if (widget.value > most[widget.name]) widget.value = most[widget.name]
}"""
"""`make demo` runs them in full."""


@pytest.mark.slow
@stem
def test_run_makes_pictures_of_every_template(server, frontend, path):
    frontend.set_nodes2(False)
    frontend.load(json.loads(path.read_text()), path.stem)
    frontend.page.evaluate(SHORTER)
    require_drawn(server.pictures(server.outputs(frontend.run(seconds=500))))
    assert frontend.complaints() == []


def test_a_saved_workflow_and_its_picture_bring_back_the_same_pixels(server, one_face):
    saved, prompt = one_face.workflow(), one_face.prompt()
    first = run(server, one_face)
    one_face.load(saved, "saved")
    assert one_face.prompt() == prompt
    assert pixels(run(server, one_face)) == pixels(first)
    one_face.load(EMPTY, "empty")
    one_face.drop(first)
    assert one_face.prompt() == prompt
    assert pixels(run(server, one_face)) == pixels(first)


@pytest.mark.parametrize("keys", ["Control+b", "Delete"])
def test_without_the_inject_node_the_next_run_draws_the_base_image(server, one_face, keys):
    base = one_face.prompt()
    ((inject, entry),) = [(node, entry) for node, entry in base.items() if entry["class_type"] == "HSpaceInject"]
    (sampler,) = [node for node in base.values() if node["inputs"].get("model") == [inject, 0]]
    sampler["inputs"]["model"] = entry["inputs"]["model"]
    del base[inject]
    drawn = pixels(picture(server, server.queue(base, {})))
    assert pixels(run(server, one_face)) != drawn
    one_face.select("Inject Direction")
    one_face.page.keyboard.press(keys)
    assert without_titles(one_face.prompt()) == without_titles(base)
    assert pixels(run(server, one_face)) == drawn
