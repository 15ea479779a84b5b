"""The example workflows on a real ComfyUI server, as a newcomer runs them."""

import json
from pathlib import Path

import pytest
from drawn import require_drawn

from tools.workflow import NOTES, to_prompt

pytestmark = pytest.mark.server

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))
NODES = sorted(path.stem for path in (ROOT / "web" / "docs").glob("*.md"))


def test_there_are_nineteen_workflows():
    assert len(WORKFLOWS) == 19  # an empty folder would leave the tests below out


@pytest.mark.parametrize("node_id", NODES)
def test_the_server_has_the_node_and_serves_its_help_page(server, object_info, node_id):
    assert object_info[node_id]["python_module"] == f"custom_nodes.{server.folder}"
    page = server.get(f"/extensions/{server.folder}/docs/{node_id}.md").decode()
    assert page == (ROOT / "web" / "docs" / f"{node_id}.md").read_text()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_uses_only_nodes_of_core_and_of_this_pack(server, object_info, path):
    types = {node["type"] for node in json.loads(path.read_text())["nodes"]} - {*NOTES, "Reroute"}
    modules = {kind: object_info[kind]["python_module"] for kind in types}
    ours = {kind for kind, module in modules.items() if module == f"custom_nodes.{server.folder}"}
    assert ours == {kind for kind in types if kind.startswith("HSpace")}
    assert not [module for kind, module in modules.items() if kind not in ours and "custom_nodes" in module]


@pytest.mark.slow
@pytest.mark.gpu
@pytest.mark.unless_browser
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_and_makes_pictures(server, object_info, path):
    workflow = json.loads(path.read_text())
    require_drawn(server.pictures(server.queue(to_prompt(workflow, object_info), workflow)))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_the_template_browser_shows_the_workflow_with_a_picture(server, path):
    templates = json.loads(server.get("/workflow_templates"))
    assert path.stem in templates[server.folder]
    assert path.with_suffix(".jpg").is_file()


def test_the_server_logged_no_traceback(server):
    assert "Traceback" not in server.log()
    assert "IMPORT FAILED" not in server.log()
