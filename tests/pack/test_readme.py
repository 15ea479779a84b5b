"""The README keeps to its size and calls the nodes by the names that ComfyUI's menu shows."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
WORDS = 1000
PICTURES = 12


def test_readme_is_short():
    assert len(README.split()) <= WORDS
    assert len(re.findall(r"^!\[", README, re.MULTILINE)) <= PICTURES


def test_readme_has_a_row_for_each_verb():
    assert [row.split("|")[1].strip() for row in verbs()] == ["capture", "find", "combine", "save, load", "inject"]


@pytest.mark.comfy
def test_the_verbs_name_every_node_once_as_the_menu_does(host, nodes_of_pack):
    host.register_folders()
    named = re.findall(r"\*\*(.+?)\*\*", "\n".join(verbs()))
    assert sorted(named) == sorted(node.GET_SCHEMA().display_name for node in vars(nodes_of_pack).values())


def verbs() -> list[str]:
    """Rows of the table of verbs, without its head."""
    section = README.partition("\n## Five verbs\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("|")][2:]
