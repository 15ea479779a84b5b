"""The tests that concern a card, and what edits take on it: `make gpu`, or `python -m tools.gpu`.

Each way in which ComfyUI may load weights is a run of its own, told to it by HSPACE_COMFYUI_ARGS. Writes
gpu-report.json, and gpu-report.md, which can be pasted into an issue. Without a card it runs as far as it goes on the
CPU, and says so; the example workflows it leaves to `make test`, which runs them there.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import torch

from tools.comfyui import ROOT, find_comfyui

CARD = {
    f"{loading}, {dtype}": f"{arguments} {flag}"
    for loading, arguments in {
        "dynamic VRAM": "",
        "no dynamic VRAM": "--disable-dynamic-vram",
        "novram": "--novram",
    }.items()
    for dtype, flag in {"float16": "--fp16-unet", "bfloat16": "--bf16-unet"}.items()
}
CPU = {"CPU": "--cpu"}
PARTS, WORKFLOWS = "tests/slow/every_part.py", "tests/pack/test_workflows.py"
SPEED = "tests/benchmarks/card_speed.py"


def run(files: tuple[str, ...], arguments: str, figures: Path) -> dict[str, object]:
    """How the marked tests in `files` end on a ComfyUI of these arguments; what they measure goes to `figures`."""
    environment = {**os.environ, "HSPACE_COMFYUI_ARGS": arguments, "HSPACE_GPU_REPORT": str(figures)}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-m", "gpu", f"--junitxml={log}", *files]
        ended = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        return {"exit": ended, **(ended_tests(log) if log.exists() else {})}


def ended_tests(log: Path) -> dict[str, object]:
    suites = list(ElementTree.parse(log).getroot().iter("testsuite"))  # noqa: S314, pytest has just written it
    count = lambda name: sum(int(suite.get(name, 0)) for suite in suites)  # noqa: E731
    failed = {
        f"{case.get('classname')}::{case.get('name')}": (problem.get("message") or "")[:500]
        for suite in suites
        for case in suite.iter("testcase")
        for problem in (*case.findall("failure"), *case.findall("error"))
    }
    return {"tests": count("tests"), "skipped": count("skipped"), "failed": failed}


def machine() -> dict[str, str]:
    card = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return {
        "card": f"{card.name}, {card.total_memory / 2**30:.0f} GiB" if card else "none: all of this is from a CPU",
        "system": platform.platform(),
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "CUDA": torch.version.cuda or "none",
        "ComfyUI": version_of_comfyui(),
        "h-space Directions": commit.stdout.strip() or "unknown",
    }


def version_of_comfyui() -> str:
    comfyui = find_comfyui()
    file = comfyui / "comfyui_version.py" if comfyui else None
    return file.read_text().rpartition('= "')[2].strip().strip('"') if file and file.exists() else "unknown"


def page(report: Mapping) -> str:
    """The report as Markdown."""
    lines = ["## h-space Directions on a card", "", *table(["", ""], report["machine"].items()), ""]
    rows = [
        [name, each.get("tests", 0), len(each.get("failed", {})), each.get("skipped", 0)]
        for name, each in report["runs"].items()
    ]
    lines += [*table(["run", "tests", "failed", "skipped"], rows), ""]
    lines += [f"* {name}: {test}: {why}" for name, each in report["runs"].items() for test, why in failures(each)]
    columns = ["what", "seconds", "to 0 edits", "peak, GiB", "peak on the card, GiB"]
    measured = [
        [f"{what}, {part}", *(cell(each.get(name)) for name in ("seconds", "ratio", *columns[3:]))]
        for what, parts in report["speed"].items()
        for part, each in parts.items()
        if isinstance(each, dict) and "seconds" in each
    ]
    return "\n".join([*lines, *table(columns, measured), ""])


def failures(run: Mapping) -> list[tuple[str, str]]:
    return [(test, why.splitlines()[0] if why else "") for test, why in run.get("failed", {}).items()]


def table(head: list[str], rows) -> list[str]:
    return [f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows)]


def cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def main() -> None:
    card = torch.cuda.is_available()
    if not card:
        print("No card: this runs as far as it goes on the CPU, and says nothing about a GPU.", flush=True)
    cases, files = (CARD, (PARTS, WORKFLOWS)) if card else (CPU, (PARTS,))
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "speed.json"
        runs = {name: run(files, arguments, Path(folder) / "parts.json") for name, arguments in cases.items()}
        runs["speed"] = run((SPEED,), "" if card else "--cpu", figures)
        speed = json.loads(figures.read_text()) if figures.exists() else {}
    report = {"machine": machine(), "runs": runs, "speed": speed}
    (ROOT / "gpu-report.json").write_text(json.dumps(report, indent=1) + "\n")
    text = page(report)
    (ROOT / "gpu-report.md").write_text(text)
    print(f"\n{text}\nThis is gpu-report.md: paste it into an issue. More is in gpu-report.json.")
    if any(each["exit"] for each in runs.values()):
        sys.exit("Some of it failed.")


if __name__ == "__main__":
    main()
