"""A ComfyUI somewhere that samples parts of a bank: asked by its own HTTP and websocket, and not trusted.

Whatever it says is read as a stranger's file is: bounded, parsed with care, and never used as a path.
"""

import asyncio
import json
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from safetensors import SafetensorError

from directions import brief, parsed

MAX_REPLY = 64 << 20
"""Bytes of JSON."""
MAX_SHARD = 64 << 30
"""Bytes; a thousand times the shards of SDXL."""
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=120)
SAYS = "hspace capture"
"""The node of a prompt that says in which folder the bank is, even where a server has it already."""
HEARTBEAT = 20
"""Seconds between signs of life that a server is asked for while it samples."""


class Lost(Exception):
    """A server that can't be reached, or went away: others may have better luck, or it may later."""


class Odd(Exception):
    """A server that answers, and can't take part."""


@dataclass(frozen=True)
class Remote:
    url: str
    session: aiohttp.ClientSession

    async def versions(self) -> dict[str, str]:
        """What must be the same everywhere."""
        pack, system = await self._json("/hspace/version"), await self._json("/system_stats")
        match pack, system:
            case {"version": str(ours)}, {"system": {"comfyui_version": str(comfyui), "pytorch_version": str(torch)}}:
                return {"h-space": ours, "ComfyUI": comfyui, "PyTorch": torch.partition("+")[0]}
        raise Odd(f"it says {brief(system)} of itself, wanted the versions of ComfyUI and PyTorch")

    async def sampled(self, prompt: dict[str, Any], report: Callable[[float], None]) -> str:
        """The folder of the bank that a prompt has recorded there; `report` hears the share that is done."""
        client = uuid.uuid4().hex
        with losses(self.url):
            async with self.session.ws_connect(
                f"{self.url}/ws", params={"clientId": client}, heartbeat=HEARTBEAT, max_msg_size=MAX_REPLY
            ) as events:
                number, folder = await self._queued(prompt, client), ""
                async for message in events:
                    if message.type != aiohttp.WSMsgType.TEXT:  # a preview picture
                        continue
                    match _understood(message.data):
                        case {"type": "progress", "data": {"value": int(value), "max": int(most)}} if most:
                            report(value / most)
                        case {"type": "executed", "data": {"node": there, "output": {"text": [str(name)]}}}:
                            folder = name if there == SAYS else folder
                        case {"type": "execution_error", "data": {"prompt_id": failed, **why}} if failed == number:
                            raise Odd(brief(f"{why.get('node_type')} failed: {why.get('exception_message')}"))
                        case {"type": "execution_interrupted", "data": {"prompt_id": stopped}} if stopped == number:
                            raise Odd("somebody has stopped it there")
                        case {"type": "execution_success", "data": {"prompt_id": done}} if done == number:
                            return folder
        raise Lost("it went away while it sampled")

    async def shards(self, folder: str) -> dict[str, list[int]]:
        """The seeds in each file of the bank there."""
        match await self._json("/hspace/shards", folder=folder):
            case dict(found) if all(isinstance(each, dict) and _numbers(each.get("seeds")) for each in found.values()):
                return {name: each["seeds"] for name, each in found.items()}
        raise Odd("it says of its shards what can't be read")

    async def fetch(self, folder: str, file: str, path: Path) -> None:
        """Write a shard of the bank there to `path`."""
        with losses(self.url):
            query = {"folder": folder, "file": file}
            async with self.session.get(f"{self.url}/hspace/shard", params=query) as answer:
                _require_found(answer)
                with path.open("wb") as out:
                    async for chunk in answer.content.iter_chunked(1 << 20):
                        if out.tell() > MAX_SHARD:
                            raise Odd(f"it sends a shard without an end, over {MAX_SHARD >> 30} GiB")
                        out.write(chunk)

    async def _queued(self, prompt: dict[str, Any], client: str) -> str:
        body = {"prompt": prompt, "client_id": client}
        async with self.session.post(f"{self.url}/prompt", json=body) as answer:
            said = await _read(answer)
        match said:
            case {"prompt_id": str(number), "node_errors": {}} if answer.status == 200:
                return number
        raise Odd(f"it refuses the workflow: {brief(said)}")

    async def _json(self, path: str, **query: str) -> Any:
        with losses(self.url):
            async with self.session.get(self.url + path, params=query) as answer:
                _require_found(answer)
                return await _read(answer)


@contextmanager
def losses(url: str):
    """What goes wrong on the way to a server, as `Lost`."""
    try:
        yield
    except (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError) as error:
        raise Lost(f"it doesn't answer: {brief(error) or type(error).__name__}") from error


def _require_found(answer: aiohttp.ClientResponse) -> None:
    if answer.status == 404:
        raise Odd("this pack is not there, or an older one: install the same version on every server")
    if answer.status != 200:
        raise Lost(f"it answers {answer.status}")


async def _read(answer: aiohttp.ClientResponse) -> Any:
    text = bytearray()
    async for chunk in answer.content.iter_chunked(1 << 16):
        text += chunk
        if len(text) > MAX_REPLY:
            raise Odd(f"it answers with over {MAX_REPLY >> 20} MiB")
    return _understood(text.decode(errors="replace"))


def _understood(text: str) -> Any:
    try:
        return parsed(text)
    except SafetensorError as error:
        raise Odd(f"it answers with what is no JSON: {brief(text)}") from error


def _numbers(seeds: object) -> bool:
    return isinstance(seeds, list) and all(type(seed) is int and 0 <= seed < 1 << 64 for seed in seeds)


def with_seeds(prompt: dict[str, Any], node: str, first: int, count: int) -> dict[str, Any]:
    """A copy of the prompt in which the node samples these seeds."""
    copy: dict[str, Any] = json.loads(json.dumps(prompt))
    copy[node]["inputs"] |= {"first_seed": first, "count": count}
    return copy
