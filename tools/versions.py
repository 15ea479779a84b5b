"""Run all tests but the browser's on other ComfyUIs than the pinned one: `python -m tools.versions`.

Each `comfyui-X.Y.Z.txt` beside this file pins one, as `comfyui.txt` pins the newest there is, which `make test` runs.
Into `.comfyui-versions/X.Y.Z` go that ComfyUI and a virtual environment of its own. It sees all packages of the Python
that runs this, torch and the development tools among them, and holds only what that ComfyUI wants in other versions.
Arguments are pytest's: `python -m tools.versions tests/nodes/test_injection.py`.
"""

import os
import subprocess
import sys
from pathlib import Path

from tools.comfyui import ROOT
from tools.install import comfyui_requirements, fetch_comfyui, pip, stage

PINS = {path.stem.partition("-")[2]: path for path in (ROOT / "tools").glob("comfyui-*.txt")}
"""By version."""
TWO_PROCESSES = ("-n", "2", "--dist", "loadgroup", "--no-loadscope-reorder")
"""As `make test`."""
FOLDER = ROOT / ".comfyui-versions"
SHARED = "\n".join(entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages"))


def make_venv(venv: Path) -> None:
    """A virtual environment whose own packages come before those of the Python that runs this."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", venv], check=True)
    (own,) = venv.glob("lib/python*/site-packages")
    (own / "shared.pth").write_text(SHARED)


def install(version: str) -> tuple[Path, Path]:
    """The folder of this ComfyUI and its Python, installed unless they are there."""
    folder, pin = FOLDER / version, PINS[version]
    comfyui, venv = folder / "ComfyUI", folder / "venv"
    python = venv / "bin" / "python"
    stage(f"ComfyUI {version}", folder / "fetched", pin.read_text(), lambda: fetch_comfyui(pin, comfyui))
    stage("virtual environment", folder / "made", SHARED, lambda: make_venv(venv))
    listed = comfyui_requirements(comfyui)
    key = "\n".join([SHARED, *listed])
    stage("requirements", folder / "installed", key, lambda: pip("install", *listed, python=python))
    return comfyui, python


def passes(version: str, arguments: list[str]) -> bool:
    """Whether the tests pass on this ComfyUI."""
    comfyui, python = install(version)
    print(f"\nComfyUI {version}", flush=True)
    environment = {**os.environ, "COMFYUI_PATH": str(comfyui), "COMFYUI_PYTHON": str(python), "OMP_NUM_THREADS": "1"}
    command = [python, "-m", "pytest", *TWO_PROCESSES, "-m", "not browser", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0


if __name__ == "__main__":
    failed = [version for version in sorted(PINS) if not passes(version, sys.argv[1:])]
    if failed:
        sys.exit(f"\nfailed on ComfyUI {', '.join(failed)}")
