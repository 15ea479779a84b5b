"""The pack as ComfyUI loads it: entry point, schemas, and that it leaves the rest of ComfyUI alone."""

import asyncio
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NODES = [
    "HSpaceAsyrpSampler",
    "HSpaceCombine",
    "HSpaceCompareSites",
    "HSpaceDrawFaces",
    "HSpaceFindFromExamples",
    "HSpaceFindFromPrompts",
    "HSpaceFindFromScores",
    "HSpaceFindFromWords",
    "HSpaceFindJacobian",
    "HSpaceFindPCA",
    "HSpaceInject",
    "HSpaceInjectStack",
    "HSpaceInvertImage",
    "HSpaceLeakage",
    "HSpaceLearnDirection",
    "HSpaceLearnFromWords",
    "HSpaceLoadClassifier",
    "HSpaceLoadDDPM",
    "HSpaceLoadDemoFaces",
    "HSpaceLoadDirection",
    "HSpaceMarkExamples",
    "HSpaceOrthogonalise",
    "HSpacePickDirection",
    "HSpaceProbe",
    "HSpaceSampleBank",
    "HSpaceSaveDirection",
    "HSpaceScorePictures",
    "HSpaceSetObjective",
    "HSpaceShowDirection",
    "HSpaceSweep",
]


@pytest.fixture(scope="module")
def node_classes(pack):
    async def load():
        extension = await pack.comfy_entrypoint()
        await extension.on_load()
        return await extension.get_node_list()

    return asyncio.run(load())


@pytest.mark.comfy
def test_the_entry_point_gives_every_node_once(node_classes):
    assert sorted(node.GET_SCHEMA().node_id for node in node_classes) == NODES


@pytest.mark.comfy
def test_inputs_are_the_parameters_of_execute(node_classes):
    for node in node_classes:
        inputs = [entry.id for entry in node.GET_SCHEMA().inputs]
        assert inputs == list(inspect.signature(node.execute).parameters), node


@pytest.mark.comfy
def test_every_input_has_a_tooltip_and_every_node_a_description(node_classes):
    for schema in (node.GET_SCHEMA() for node in node_classes):
        assert schema.description, schema.node_id
        entries = [entry for each in schema.inputs for entry in each.get_all()]
        assert not [entry.id for entry in entries if not entry.tooltip], schema.node_id


@pytest.mark.comfy
def test_nodes_are_named_and_filed_under_h_space(node_classes):
    for schema in (node.GET_SCHEMA() for node in node_classes):
        assert re.match(r"HSpace[A-Z]", schema.node_id)
        assert schema.display_name and "HSpace" not in schema.display_name, schema.node_id
        assert schema.category.startswith("h-space"), schema.node_id


@pytest.mark.comfy
def test_every_node_has_a_help_page(pack, node_classes):
    for node_id in (node.GET_SCHEMA().node_id for node in node_classes):
        page = ROOT / pack.WEB_DIRECTORY / "docs" / f"{node_id}.md"
        assert page.is_file() and page.read_text().strip(), page


@pytest.mark.comfy
def test_import_nodes_is_still_comfyuis(node_classes):
    assert hasattr(importlib.import_module("nodes"), "NODE_CLASS_MAPPINGS")


def test_importing_the_pack_imports_nothing_heavy():
    script = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('pack', {str(ROOT / '__init__.py')!r})\n"
        "spec.loader.exec_module(importlib.util.module_from_spec(spec))\n"
        "print(*sorted({'torch', 'diffusers', 'comfy', 'sklearn', 'scipy'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
