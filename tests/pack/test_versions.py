"""The ComfyUIs that the tests run on are those that the pack claims, each with packages of its own."""

import asyncio
import re
import subprocess
from importlib.util import find_spec

import pytest

from tools.comfyui import ROOT
from tools.versions import PINS, make_venv

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib


OLDEST = min(PINS, key=lambda version: [int(part) for part in version.split(".")])


def test_requires_comfyui_claims_the_oldest_that_is_run():
    claimed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["comfy"]["requires-comfyui"]
    assert claimed == f">={OLDEST}"


@pytest.mark.comfy
def test_a_comfyui_without_the_hook_is_refused_in_a_sentence(pack, monkeypatch):
    from comfy.model_patcher import ModelPatcher
    from comfyui_version import __version__

    monkeypatch.delattr(ModelPatcher, pack.HOOK)
    sentence = f"got {__version__}, which has no {pack.HOOK}, wanted {OLDEST} or newer"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        asyncio.run(pack.comfy_entrypoint())


def test_a_version_sees_the_packages_here_and_its_own_before_them(tmp_path):
    make_venv(tmp_path)
    (own,) = tmp_path.glob("lib/python*/site-packages")
    (own / "tqdm.py").touch()
    code = (
        "import tqdm; from importlib.util import find_spec; print(tqdm.__file__, find_spec('torch').origin, sep='\\n')"
    )
    run = subprocess.run([tmp_path / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [str(own / "tqdm.py"), find_spec("torch").origin]
