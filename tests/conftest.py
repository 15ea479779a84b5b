"""Finds ComfyUI and lets the tests import it, this pack, and the mathematics alone.

`import directions` works without ComfyUI. What runs inside ComfyUI is imported through the fixture `pack`, which loads
the folder as ComfyUI does: `importlib.import_module("hspace_pack.nodes.host")`.
"""

import importlib
import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACK = "hspace_pack"

# At the end: this pack's folder `nodes` must not hide ComfyUI's nodes.py.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT] + [str(ROOT), str(ROOT / "tests")]

from tiers import leave_out, left_out  # noqa: E402, the path comes first

from tools.comfyui import find_comfyui  # noqa: E402

COMFYUI = find_comfyui()
# What the tests save goes here, not into ComfyUI's own folders.
BASE = tempfile.TemporaryDirectory(prefix="hspace-tests-")


def start_comfyui(comfyui: Path) -> None:
    """Put ComfyUI on the path as its main.py would be, run with what HSPACE_COMFYUI_ARGS says, `--cpu` if nothing."""
    sys.path.insert(0, str(comfyui))
    import comfy.options

    chosen = os.environ.get("HSPACE_COMFYUI_ARGS", "--cpu").split()
    arguments, sys.argv = sys.argv, ["main.py", *chosen, "--base-directory", BASE.name]
    comfy.options.enable_args_parsing()
    import comfy.cli_args  # noqa: F401, it reads sys.argv now and never again

    comfy.options.enable_args_parsing(False)
    if "--cpu" not in chosen:
        start_dynamic_vram()
    # As main.py does: nodes.py puts comfy/ before it on the path, which has a utils.py of its own.
    import utils.extra_config  # noqa: F401

    sys.argv = arguments


def start_dynamic_vram() -> None:
    """As main.py does on a card, unless its arguments say no."""
    import comfy.cli_args

    if not getattr(comfy.cli_args, "enables_dynamic_vram", lambda: False)():
        return
    import comfy_aimdo.control

    comfy_aimdo.control.init()
    import comfy.memory_management
    import comfy.model_management
    import comfy.model_patcher

    devices = comfy.model_management.get_all_torch_devices()
    if comfy_aimdo.control.init_devices((each.index, 0) for each in devices):
        comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
        comfy.memory_management.aimdo_enabled = True


if COMFYUI:
    start_comfyui(COMFYUI)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if COMFYUI is None and any(mark.name in ("comfy", "server") for mark in item.iter_markers()):
        leave_out("no ComfyUI found: run `make install` or set COMFYUI_PATH")


@pytest.hookimpl(tryfirst=True)  # before the plugin that reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of two processes each takes a file at a time, the longest first: the browser's. What the browser runs is not run
    by the server alone as well."""
    items.sort(key=lambda item: not item.get_closest_marker("browser"))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(item.path.name))
    in_browser = any(item.get_closest_marker("browser") for item in items)
    if in_browser and "not browser" not in config.option.markexpr:
        again = [item for item in items if item.get_closest_marker("unless_browser")]
        config.hook.pytest_deselected(items=again)
        items[:] = [item for item in items if item not in again]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lines := left_out(terminalreporter.stats.get("skipped", [])):
        terminalreporter.write_sep("=", "LEFT OUT, so not tested on this machine", red=True, bold=True)
        for line in lines:
            terminalreporter.write_line(line, red=True)


@pytest.fixture(scope="session")
def pack() -> ModuleType:
    """This pack, loaded by its path as ComfyUI loads it."""
    spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def nodes_of_pack(pack) -> SimpleNamespace:
    """The node classes by their ids: `nodes_of_pack.HSpaceInject`."""
    from demo_faces import node_classes

    return node_classes(pack)


@pytest.fixture(scope="session")
def host(pack) -> ModuleType:
    return importlib.import_module(f"{pack.__name__}.nodes.host")


@pytest.fixture(scope="session")
def modules(pack):
    """Those of nodes/ by their names: `modules("host.sampling")`."""
    return lambda name: importlib.import_module(f"{pack.__name__}.nodes.{name}")


@pytest.fixture(scope="session")
def faces(pack):
    """The demo model and what the tests make of it."""
    from demo_faces import DemoFaces

    return DemoFaces(pack)


@pytest.fixture(scope="session")
def words(pack):
    """The demo faces that listen to words."""
    from prompted_faces import PromptedFaces

    return PromptedFaces(pack)


@pytest.fixture(scope="session")
def bank(faces, tmp_path_factory):
    """Twelve demo faces."""
    return faces.bank(tmp_path_factory.mktemp("banks"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real ComfyUI with this pack, for the tests of one file."""
    from tools.server import Server

    with Server(tmp_path_factory.mktemp("output"), base=tmp_path_factory.mktemp("base")) as server:
        yield server


@pytest.fixture(scope="module")
def object_info(server):
    return server.object_info()
