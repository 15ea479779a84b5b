"""The nodes in ComfyUI's own page: found by name and alias, explained by tooltips and help pages."""

from pathlib import Path

import pytest
from tiers import require_browser

from tools.comfyui import ROOT
from tools.server import Server

require_browser()

pytestmark = [pytest.mark.server, pytest.mark.browser]

PAGES = sorted((ROOT / "web" / "docs").glob("*.md"))
EMPTY = {"nodes": [], "links": [], "groups": [], "version": 0.4}
SHOWN = "() => document.querySelector('.node-help-content img')?.naturalWidth > 0"
"""Whether the help page's picture has come."""
page_of_node = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)


def heading(page: Path) -> str:
    return page.read_text().splitlines()[0].removeprefix("# ")


@page_of_node
def test_a_node_is_found_by_its_name_and_explains_itself(object_info, frontend, path):
    info = object_info[path.stem]
    frontend.set_nodes2(False)
    frontend.load(EMPTY, "empty")
    frontend.add_node(info["display_name"], info["display_name"])
    (node,) = frontend.workflow()["nodes"]
    assert node["type"] == path.stem
    specs = info["input"].get("required", {}) | info["input"].get("optional", {})
    # The sockets of an Autogrow input have names of their own, for which the frontend shows no tooltip.
    for slot in [slot for slot, entry in enumerate(node["inputs"]) if entry["name"] in specs][:1]:
        assert frontend.tooltip(slot) == specs[node["inputs"][slot]["name"]][1]["tooltip"]
    page = frontend.open_help()
    assert page.locator("h1").inner_text() == heading(path)
    frontend.page.wait_for_function(SHOWN)
    assert frontend.complaints() == []


@page_of_node
def test_a_node_is_found_by_an_alias(object_info, frontend, path):
    info = object_info[path.stem]
    frontend.set_nodes2(False)
    frontend.load(EMPTY, "empty")
    frontend.add_node(info["search_aliases"][0], info["display_name"])
    assert [node["type"] for node in frontend.workflow()["nodes"]] == [path.stem]


@pytest.mark.slow
def test_help_pages_and_templates_open_under_another_name_of_the_folder(server, frontend, tmp_path):
    other = tmp_path / "custom_nodes" / "\u5fae\u7b11 h-space@1.0.0 (1)"
    other.parent.mkdir()
    other.symlink_to(ROOT)
    with Server(tmp_path / "output", base=tmp_path) as second:
        assert second.folder == other.name
        try:
            frontend.open(second.url)
            frontend.add_node("Inject Direction", "Inject Direction")
            assert frontend.open_help().locator("h1").inner_text() == "Inject Direction"
            frontend.page.wait_for_function(SHOWN)
            frontend.open_template(other.name, "Edit a face with a saved direction")
            assert frontend.complaints() == []
        finally:
            frontend.open(server.url)
