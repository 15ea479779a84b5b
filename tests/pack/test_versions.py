"""The ComfyUIs that the tests run on are those that the pack claims, each with packages of its own."""

import subprocess
from importlib.util import find_spec

from tools.comfyui import ROOT
from tools.versions import PINS, make_venv

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib


def test_requires_comfyui_claims_the_oldest_that_is_run():
    claimed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["comfy"]["requires-comfyui"]
    assert claimed == f">={min(PINS, key=lambda version: [int(part) for part in version.split('.')])}"


def test_a_version_sees_the_packages_here_and_its_own_before_them(tmp_path):
    make_venv(tmp_path)
    (own,) = tmp_path.glob("lib/python*/site-packages")
    (own / "tqdm.py").touch()
    code = (
        "import tqdm; from importlib.util import find_spec; print(tqdm.__file__, find_spec('torch').origin, sep='\\n')"
    )
    run = subprocess.run([tmp_path / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [str(own / "tqdm.py"), find_spec("torch").origin]
