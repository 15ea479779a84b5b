"""The pack's rooms, what each imports, and the rules they keep: `python -m tools.structure`.

A room is a folder of files with one subject. Imports are read, not run. Three rules: arrows between rooms point
downwards in `LAYERS`; a room is entered by its `__init__` alone; a node file imports no node file.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.comfyui import ROOT

VERBS = ("nodes/capture", "nodes/label", "nodes/find", "nodes/combine", "nodes/library", "nodes/inject")
LAYERS: tuple[tuple[str, ...], ...] = (
    ("nodes",),
    VERBS,
    ("nodes/host", "nodes/ui"),
    ("nodes/host/pixel_ddpm",),
    ("demo",),
    ("directions",),
    ("directions/finders",),
    ("directions/measures",),
    ("directions/banks",),
    ("directions/files",),
    ("directions/direction",),
)
"""From those who use to those who are used. Rooms side by side don't import each other."""
SHARED = {"nodes/host/unchanged"}
"""Modules in a room above that those below may import: a decorator."""


@dataclass(frozen=True)
class Import:
    file: str
    """Such as "nodes/find/pca"."""
    target: str
    """A module or a room of the pack, or the name of a foreign package."""

    @property
    def rooms(self) -> tuple[str, str]:
        return room_of(self.file), room_of(self.target)


def is_room(name: str) -> bool:
    return bool(name) and (ROOT / name / "__init__.py").is_file()


def room_of(name: str) -> str:
    return name if is_room(name) else name.rpartition("/")[0] or name


def imports() -> list[Import]:
    """Every import in the pack's code, late ones too."""
    paths = [path for part in ("directions", "nodes") for path in sorted((ROOT / part).rglob("*.py"))]
    return [each for path in paths for each in _imports_of(path)]


def _imports_of(path: Path) -> Iterator[Import]:
    relative = path.relative_to(ROOT).with_suffix("")
    file = (relative.parent if relative.name == "__init__" else relative).as_posix()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (Import(file, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield Import(file, node.module.partition(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = relative.parent.parts[: len(relative.parent.parts) - node.level + 1]
            target = "/".join([*base, *(node.module.split(".") if node.module else ())])
            for alias in node.names:
                inner = f"{target}/{alias.name}"
                yield Import(file, inner if is_room(inner) or (ROOT / f"{inner}.py").is_file() else target)


def violations(found: list[Import]) -> list[str]:
    """Sentences about imports that break a rule."""
    return [f"{each.file} imports {each.target}: {reason}" for each in found if (reason := _wrong(each))]


def _wrong(each: Import) -> str:
    source, target = each.rooms
    if source.startswith("directions") and (target.startswith("nodes") or target in ("comfy", "comfy_api", "nodes")):
        return "the mathematics knows nothing of ComfyUI"
    if source in VERBS and source == target and each.file != source:
        return "a node file imports no node file"
    house = each.target.rpartition("/")[0]
    if is_room(house) and not f"{each.file}/".startswith(f"{house}/"):
        return f"{house} is entered by its __init__ alone"
    depths = {room: depth for depth, layer in enumerate(LAYERS) for room in layer}
    if source == target or target not in depths or each.target in SHARED or depths[source] < depths[target]:
        return ""
    return "arrows point downwards only"


def main() -> int:
    found = imports()
    arrows = sorted({each.rooms for each in found if each.rooms[0] != each.rooms[1] and "/" in "/".join(each.rooms)})
    for layer in LAYERS:
        for room in layer:
            below = [target for source, target in arrows if source == room and any(target in each for each in LAYERS)]
            files = len(list((ROOT / room).glob("*.py")))
            print(f"{room:24} {files:3} files  ->  {', '.join(below) or '-'}")
    broken = violations(found)
    print("\n".join(broken) or f"{len(found)} imports, no rule broken")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
