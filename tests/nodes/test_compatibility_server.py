"""Several prompts on one ComfyUI server: strengths, the cache, bypass and previews leave each other alone."""

import json
import time
import uuid
from urllib.request import Request

import numpy as np
import pytest
import websocket
from PIL import Image

from tools.server import OPENER, Server

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("output"), base=tmp_path_factory.mktemp("base"))
    server.command += ["--preview-method", "latent2rgb"]
    with server:
        yield server


def prompt(strength: float | None) -> dict:
    """A demo face with an edit; None is a bypassed node, which is not in the prompt at all."""
    nodes = {
        "load": ("HSpaceLoadDDPM", {"model": "demo faces (built in)"}),
        "direction": ("HSpaceLoadDirection", {"direction": "demo age.safetensors"}),
        "inject": (
            "HSpaceInject",
            {
                "model": ["load", 0], "direction": ["direction", 0], "strength": strength, "start_percent": 0.0,
                "end_percent": 1.0, "apply_to": "both", "fit": "resize",
            },
        ),
        "sample": (
            "KSampler",
            {
                "model": ["load" if strength is None else "inject", 0], "positive": ["load", 2],
                "negative": ["load", 2], "latent_image": ["load", 3], "seed": 1, "steps": 4, "cfg": 1.0,
                "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
            },
        ),
        "decode": ("VAEDecode", {"samples": ["sample", 0], "vae": ["load", 1]}),
        "save": ("SaveImage", {"images": ["decode", 0], "filename_prefix": "compatibility"}),
    }  # fmt: skip
    if strength is None:
        del nodes["direction"], nodes["inject"]
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}


def run(server, *strengths: float | None) -> tuple[list[np.ndarray], list[set[str]], int]:
    """The pictures of prompts that are all queued before the first has run; which nodes were cached; previews seen."""
    client, cached, previews = uuid.uuid4().hex, {}, 0
    events = websocket.create_connection(f"ws://127.0.0.1:{server.port}/ws?clientId={client}", http_no_proxy=["*"])
    try:
        prompts = [server._post_prompt({"prompt": prompt(strength), "client_id": client}) for strength in strengths]
        waiting = set(prompts)
        while waiting:
            message = events.recv()
            if isinstance(message, bytes):
                previews += 1
                continue
            event = json.loads(message)
            if event["type"] == "execution_cached":
                cached[event["data"]["prompt_id"]] = set(event["data"]["nodes"])
            if event["type"] == "executing" and event["data"]["node"] is None:
                waiting.discard(event["data"]["prompt_id"])
    finally:
        events.close()
    histories = [json.loads(server.get(f"/history/{each}"))[each] for each in prompts]
    assert [history["status"]["status_str"] for history in histories] == ["success"] * len(strengths)
    pictures = [np.asarray(Image.open(server.pictures(history["outputs"])[0])) for history in histories]
    return pictures, [cached.get(each, set()) for each in prompts], previews


def forget(server) -> None:
    """Empties the cache of nodes and unloads the models, as the button of the page does."""
    body = json.dumps({"unload_models": True, "free_memory": True}).encode()
    OPENER.open(Request(f"{server.url}/free", body, {"Content-Type": "application/json"})).close()
    time.sleep(1)  # the queue does it between two prompts, and before neither if one is waiting


@pytest.fixture(scope="module")
def fresh(server):
    """Each picture made by itself after everything was forgotten, and the previews on its way."""
    made = {}
    for strength in (None, 1.0, 2.0):
        forget(server)
        (made[strength],), (cached,), made["previews", strength] = run(server, strength)
        assert not cached
    return made


def test_prompts_queued_with_other_strengths_give_each_its_own_picture(server, fresh):
    forget(server)
    pictures, _, _ = run(server, 1.0, 2.0, None, 0.0, 1.0)
    for picture, strength in zip(pictures, (1.0, 2.0, None, None, 1.0), strict=True):
        assert np.array_equal(picture, fresh[strength])
    assert not np.array_equal(fresh[1.0], fresh[None])
    assert not np.array_equal(fresh[2.0], fresh[1.0])


def test_another_strength_runs_from_the_injection_on_with_the_loaders_from_the_cache(server, fresh):
    run(server, 1.0)
    (edited,), (cached,), _ = run(server, 2.0)
    assert cached == {"load", "direction"}
    assert np.array_equal(edited, fresh[2.0])


def test_bypassing_the_injection_gives_the_base_picture_to_the_bit(server, fresh):
    run(server, 2.0)
    (base,), (cached,), _ = run(server, None)
    assert "load" in cached  # the very model that was edited
    assert np.array_equal(base, fresh[None])


def test_previews_are_shown_with_an_edit_as_without(fresh):
    assert fresh["previews", 1.0] == fresh["previews", None] > 0


def test_the_server_logged_no_traceback(server, fresh):
    assert "Traceback" not in server.log()
