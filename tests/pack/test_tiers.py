"""A tier that a machine cannot run is named at the end of the output, and is a failure where all are required."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tiers import REQUIRED

from tools.comfyui import ROOT, find_comfyui

(BROWSER,) = (ROOT / "tests").rglob("test_browser.py")
SENTENCE = "the browser tier needs Chromium: `apt-get install chromium`"
# Installs nothing before its first update, as on a fresh machine without package lists.
APT_GET = """#!/bin/sh
echo "apt-get $*" >> "$LOG"
[ "$1" = update ] && : > "$LOG.updated"
[ -e "$LOG.updated" ]
"""
MAKE = f"""#!/bin/sh
echo "make $* {REQUIRED}=${REQUIRED}" >> "$LOG"
"""


def without_chromium(path: Path, **changed: str) -> dict[str, str]:
    """This environment with no programs but those in `path`."""
    kept = {name: value for name, value in os.environ.items() if name not in ("CHROMIUM", REQUIRED, "PYTEST_ADDOPTS")}
    return {**kept, "PATH": str(path), **changed}


def run_pytest(environment: dict[str, str]) -> subprocess.CompletedProcess:
    """The browser tier and the quick test below."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", BROWSER, __file__, "-k", "same_comfyui"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_the_same_comfyui_is_found_from_every_folder(tmp_path, monkeypatch):
    found = find_comfyui()
    monkeypatch.chdir(tmp_path)
    assert find_comfyui() == found


def test_a_run_without_chromium_passes_and_ends_with_what_was_left_out(tmp_path):
    run = run_pytest(without_chromium(tmp_path))
    assert run.returncode == 0, run.stdout
    heading, left_out, counts = run.stdout.splitlines()[-3:]
    assert "LEFT OUT" in heading
    assert f"test_browser.py: {SENTENCE}" in left_out
    assert "1 passed" in counts


def test_a_run_without_chromium_fails_where_every_tier_is_required(tmp_path):
    run = run_pytest(without_chromium(tmp_path, **{REQUIRED: "1"}))
    assert run.returncode != 0
    assert SENTENCE in run.stdout


def test_ci_installs_chromium_where_it_may_and_requires_every_tier(tmp_path):
    log, path = tmp_path / "log", tmp_path / "bin"
    path.mkdir()
    (path / "dirname").symlink_to(shutil.which("dirname"))
    for name, text in {"apt-get": APT_GET, "make": MAKE}.items():
        (path / name).write_text(text)
        (path / name).chmod(0o755)
    subprocess.run([shutil.which("bash"), ROOT / ".ci" / "run"], env=without_chromium(path, LOG=str(log)), check=True)
    install = "apt-get install --yes --quiet chromium"
    installed = [install, "apt-get update --quiet", install] if os.geteuid() == 0 else []
    assert log.read_text().splitlines() == [*installed, f"make test {REQUIRED}=1"]
