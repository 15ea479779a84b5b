"""The way of the data, held by reading imports: rooms, arrows downwards, one door to each room."""

import pytest

from tools.comfyui import ROOT
from tools.structure import VERBS, Import, imports, violations


def test_every_import_keeps_the_rules():
    assert not violations(imports())


@pytest.mark.parametrize(
    ("file", "target", "reason"),
    [
        ("directions/algebra", "comfy", "knows nothing of ComfyUI"),
        ("directions/finders/pca", "nodes/host", "knows nothing of ComfyUI"),
        ("directions/files/names", "directions/banks", "downwards only"),
        ("directions/banks/bank", "directions/algebra", "downwards only"),
        ("nodes/host/sampling", "nodes/ui", "downwards only"),
        ("nodes/ui/plots", "nodes/inject", "downwards only"),
        ("nodes/find/pca", "nodes/label", "downwards only"),
        ("nodes/find/pca", "nodes/find/pick", "a node file imports no node file"),
        ("nodes/find/pca", "nodes/host/sampling", "by its __init__ alone"),
        ("nodes/host/listings", "directions/files", "directions is entered by its __init__ alone"),
        ("nodes/host/listings", "nodes/host/pixel_ddpm/files", "by its __init__ alone"),
    ],
)
def test_an_import_that_breaks_a_rule_is_named(file, target, reason):
    (sentence,) = violations([Import(file, target)])
    assert sentence.startswith(f"{file} imports {target}: ")
    assert reason in sentence


@pytest.mark.parametrize("verb", VERBS)
def test_a_verbs_folder_holds_node_files_only(verb):
    files = sorted(path for path in (ROOT / verb).glob("*.py") if path.name != "__init__.py")
    assert files and all("(io.ComfyNode):" in file.read_text() for file in files)


@pytest.mark.parametrize("room", ["nodes/host", "nodes/ui"])
def test_no_node_lives_in_host_or_ui(room):
    assert not [path for path in (ROOT / room).rglob("*.py") if "ComfyNode" in path.read_text()]
