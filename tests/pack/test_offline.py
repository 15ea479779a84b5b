"""No network and no foreign code: what the pack does is watched, and what it ships is read."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = [
    ROOT / "__init__.py",
    *sorted((ROOT / "directions").rglob("*.py")),
    *sorted((ROOT / "nodes").rglob("*.py")),
    *(ROOT / "demo" / name for name in ("attributes.py", "faces.py")),
]
BANNED_MODULES = {
    "aiohttp", "asyncio", "cloudpickle", "code", "ctypes", "dill", "ftplib", "http", "huggingface_hub", "importlib",
    "joblib", "marshal", "multiprocessing", "os", "pickle", "pip", "pty", "requests", "runpy", "shelve", "shutil",
    "smtplib", "socket", "ssl", "subprocess", "tarfile", "urllib", "urllib3", "webbrowser", "xmlrpc", "zipfile",
}  # fmt: skip
HARMLESS = {"from os import fsync", "from aiohttp import web"}
"""Of the banned modules: web answers at ComfyUI's own server, it doesn't connect."""
BANNED_CALLS = {"__import__", "compile", "eval", "exec", "execfile", "getattr_static", "breakpoint", "open"}
BANNED_METHODS = {"torch.load", "torch.hub", "np.load", "numpy.load", "comfy.utils.load_torch_file"}


@pytest.mark.comfy
def test_nothing_connects_or_runs_code_while_the_pack_is_used(tmp_path):
    script = Path(__file__).with_name("offline.py")
    result = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_ships_has_no_means_to_run_code_or_to_connect(path):
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    modules = {alias.name.partition(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {
        node.module.partition(".")[0]
        for node in nodes
        if isinstance(node, ast.ImportFrom) and not node.level and ast.unparse(node) not in HARMLESS
    }
    called = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
    named = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    assert not modules & BANNED_MODULES
    assert not called & BANNED_CALLS
    assert not named & BANNED_METHODS


def test_hugging_faces_loaders_are_told_to_stay_here_and_run_nothing():
    calls = [
        node
        for path in SHIPPED
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("from_pretrained")
    ]
    assert len(calls) == 2
    for call in calls:
        told = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert (told["local_files_only"], told["trust_remote_code"]) == ("True", "False")
        assert told.get("use_safetensors", "True") == "True"
