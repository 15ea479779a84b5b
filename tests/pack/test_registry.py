"""What the registry and a reader of the repository get: metadata, artwork, links, and the files that ship."""

import ast
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from pathspec import PathSpec
from PIL import Image

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PAGES = [ROOT / "README.md", ROOT / "demo" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)\s]+)\)")
SERVED = ("web", "example_workflows", "locales", "subgraphs")
"""Folders that ComfyUI reads by itself; the last two need not exist."""


@pytest.fixture(scope="module")
def hidden():
    """Whether .comfyignore keeps a path from being published, as comfy-cli reads it."""
    spec = PathSpec.from_lines("gitignore", (ROOT / ".comfyignore").read_text().split("\n"))
    return lambda path: spec.match_file(path.relative_to(ROOT).as_posix())


def links(page: Path, *, images_only: bool = False) -> list[Path]:
    """The files that a page links to; addresses and places in the page itself are left out."""
    found = [target for mark, target in LINK.findall(page.read_text()) if mark or not images_only]
    inside = [target.partition("#")[0] for target in found if not re.match(r"[a-z]+:|#", target)]
    return [(page.parent / unquote(target)).resolve() for target in inside]


def imported(module: Path, known: set[Path]) -> set[Path]:
    """`module` and every file of the pack that it imports, also late and through others."""
    if module in known or not module.is_file():
        return known
    known = known | {module}
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = module.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            for target in (folder, *(folder / alias.name for alias in node.names)):
                known = imported(target.with_suffix(".py"), imported(target / "__init__.py", known))
    return known


def modules() -> set[Path]:
    return imported(ROOT / "__init__.py", set())


def test_the_version_is_semantic_and_has_a_section_in_the_changelog():
    version = PROJECT["project"]["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_registry_knows_who_and_what():
    name, comfy = PROJECT["project"]["name"], PROJECT["tool"]["comfy"]
    assert re.fullmatch(r"[A-Za-z]+([-_.][A-Za-z0-9]+)*", name) and len(name) < 100 and "comfyui" not in name.lower()
    assert PROJECT["project"]["description"] and PROJECT["project"]["license"] == {"file": "LICENSE"}
    assert comfy["PublisherId"] and comfy["DisplayName"] and comfy["requires-comfyui"].startswith(">=")


def test_requirements_are_the_same_for_pip_and_for_the_registry():
    assert (ROOT / "requirements.txt").read_text().split("\n")[:-1] == PROJECT["project"]["dependencies"]


def test_the_icon_is_square_and_small_and_the_banner_is_21_to_9():
    with Image.open(ROOT / "docs" / "icon.png") as icon, Image.open(ROOT / "docs" / "banner.png") as banner:
        assert icon.width == icon.height <= 400
        assert banner.width * 9 == banner.height * 21


def test_the_animation_moves_and_is_light():
    path = ROOT / "docs" / "sweep.webp"
    assert path.stat().st_size < 3e6
    with Image.open(path) as animation:
        assert animation.n_frames > 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_inside_the_repository_leads_somewhere(page):
    assert not [target for target in links(page) if not target.exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_that_ships_links_to_what_ships_too(page, hidden):
    assert hidden(page) or not [target for target in links(page) if hidden(target)]


def test_readme_opens_with_a_picture_and_shows_several():
    assert re.search(r"^!\[", (ROOT / "README.md").read_text().split("\n\n")[1])
    assert len(links(ROOT / "README.md", images_only=True)) >= 4


def test_every_module_that_the_pack_imports_ships(hidden):
    names = {path.relative_to(ROOT).as_posix() for path in modules()}
    assert {"nodes/host/sites.py", "directions/direction/direction.py", "demo/faces.py", "demo/attributes.py"} <= names
    assert not [path for path in modules() if hidden(path)]


def test_everything_that_comfyui_reads_or_the_pack_opens_ships(hidden):
    text = "\n".join(path.read_text() for path in modules())
    opened = [ROOT / "demo" / name for name in re.findall(r'PACK / "demo" / "(\w+)"', text)]
    assert len(opened) >= 3
    beside = {path for pattern in ("*.py", "measurements.json") for path in (ROOT / "demo" / "prompted").glob(pattern)}
    folders = (*opened, *(ROOT / name for name in SERVED))
    files = [path for folder in folders for path in folder.rglob("*") if path not in beside]
    needed = [*files, *(ROOT / name for name in ("LICENSE", "README.md", "requirements.txt", "pyproject.toml"))]
    assert not [path for path in needed if hidden(path)]


CAPTURE = {"__init__", "capture", "comfyui", "homecoming", "remote"}
"""tools.capture and what it imports: it is for users."""


def test_what_only_development_needs_does_not_ship(hidden):
    for name in (
        "tests/pack/test_pack.py",
        "tests/benchmarks/speed.py",
        "tools/server.py",
        "demo/train.py",
        "Makefile",
    ):
        assert (ROOT / name).is_file() and hidden(ROOT / name), name
    kept_out = [".ci", ".github", "tests"]
    assert all(hidden(path) for name in kept_out for path in (ROOT / name).rglob("*") if path.is_file())
    assert {path.stem for path in (ROOT / "tools").glob("*.*") if not hidden(path)} == CAPTURE
    assert [path.name for path in (ROOT / "docs").glob("*.json") if not hidden(path)] == ["distributed.json"]


def test_what_ships_starts_no_process_and_unpickles_nothing():
    banned = {"subprocess", "pickle", "ctypes", "socket", "requests", "urllib"}
    for path in modules():
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = {alias.name.partition(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {(node.module or "").partition(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
        called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        assert not names & banned and not called & {"eval", "exec"}, path


def test_publishing_needs_a_new_version_pinned_actions_and_no_more_rights_than_reading():
    workflow = (ROOT / ".github" / "workflows" / "publish.yml").read_text()
    assert "paths: [pyproject.toml]" in workflow and "permissions:\n  contents: read\n" in workflow
    assert "secrets.REGISTRY_ACCESS_TOKEN" in workflow
    uses = re.findall(r"uses: (\S+)", workflow)
    assert uses and all(re.search(r"@[0-9a-f]{40}$", action) for action in uses)
