"""Banks sampled on several real ComfyUIs, some of which fail: what the tests of tools.capture share."""

import asyncio
import shutil
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp
import torch
from aiohttp import web
from safetensors.torch import load_file, save_file

from directions import Bank, open_bank
from tools.capture import capture
from tools.prompts import RUN, faces, prompt
from tools.server import Server

ROOT = Path(__file__).resolve().parents[1]
MODEL = "our faces"
STEPS, BATCH = 3, 4


def workflow(count: int = 1) -> dict:
    """A bank of the demo faces, of one copy of its model in every server's own folder."""
    nodes = faces("euler_ancestral", STEPS)
    bank = {**RUN, "name": "faces", "count": count, "first_seed": 0, "batch_size": BATCH, "branch": "positive"}
    more = {"bank": ("HSpaceSampleBank", bank), "seen": ("PreviewAny", {"source": ["bank", 1]})}
    return prompt({**nodes, "load": ("HSpaceLoadDDPM", {"model": MODEL}), **more})


def base_folder(folder: Path, *, other_model: bool = False) -> Path:
    """Where a server has its models; another model is one number away from ours."""
    model = folder / "models" / "diffusers" / MODEL
    shutil.copytree(ROOT / "demo" / "ddpm", model)
    if other_model:
        (weights,) = model.rglob("*.safetensors")
        tensors = load_file(weights)
        name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
        tensors[name] = tensors[name] + 0.125
        weights.unlink()
        save_file(tensors, weights)
    return folder


def server(folder: Path, **model) -> Server:
    return Server(folder / "output", base=base_folder(folder / "base", **model))


def captured(seeds: range, servers: list[str], to: Path, **settings):
    """What `capture` says, and the bank."""
    settings = {"batches": 1, "patience": 60.0} | settings
    done = asyncio.run(capture(workflow(), seeds, servers, to=to, **settings))
    return done, open_bank(done.folder)


def same(one: Bank, other: Bank) -> bool:
    """To the bit in h and latents."""
    h = all(
        torch.equal(one.h(site, step), other.h(site, step)) for site in one.shapes for step in range(len(one.timesteps))
    )
    return h and one.seeds == other.seeds and one.recipe == other.recipe and torch.equal(one.latents(), other.latents())


@contextmanager
def standing_before(url: str, answer):
    """The address of a server that passes on all that one at `url` says, but for what `answer` makes of it.

    `answer(request, body)` gives other bytes, or None to pass them on. Websockets are passed on as they are.
    """
    loop, started = asyncio.new_event_loop(), threading.Event()
    ports: list[int] = []

    async def run() -> None:
        async with aiohttp.ClientSession() as session:

            async def passed_on(request: web.Request) -> web.StreamResponse:
                if request.headers.get("Upgrade", "").lower() == "websocket":
                    return await _websocket(session, url, request)
                data = await request.read()
                async with session.request(request.method, url + str(request.rel_url), data=data,
                                           headers={"Content-Type": request.content_type}) as reply:  # fmt: skip
                    body = await reply.read()
                    other = answer(request, body)
                    return web.Response(body=body if other is None else other, status=reply.status)

            app = web.Application(client_max_size=1 << 30)
            app.router.add_route("*", "/{path:.*}", passed_on)
            runner = web.AppRunner(app)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            ports.append(runner.addresses[0][1])
            started.set()
            await stop.wait()
            await runner.cleanup()

    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    started.wait(30)
    try:
        yield f"http://127.0.0.1:{ports[0]}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)


async def _websocket(session: aiohttp.ClientSession, url: str, request: web.Request) -> web.WebSocketResponse:
    ours = web.WebSocketResponse()
    await ours.prepare(request)
    async with session.ws_connect(url + str(request.rel_url)) as theirs:

        async def pass_on() -> None:
            with suppress(ConnectionError):  # whoever asked has gone
                async for message in theirs:
                    if message.type == aiohttp.WSMsgType.TEXT:
                        await ours.send_str(message.data)
            await ours.close()

        passing = asyncio.create_task(pass_on())
        async for _ in ours:  # until it is closed: whoever asks says nothing
            pass
        passing.cancel()
    return ours
