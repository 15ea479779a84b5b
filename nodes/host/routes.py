"""What ComfyUI's own server is asked for: banks, by who brings them home; help pages and templates, by its page.

The page asks for these whatever the pack's folder is called. It cuts the folder's name at a dot or an @ when it asks
for a help page, and ComfyUI's static routes never match a name that an address has to quote: one with a space, an
accent, a Chinese one.
"""

import re
from pathlib import Path

import folder_paths
from aiohttp import web
from server import PromptServer

from ...directions import safe_path, seeds_in, stays_inside
from .paths import BANKS, PACK


def register_pages() -> None:
    """Serve what ComfyUI does not for a folder of this name; nothing for a plain one, or without a server."""
    if re.fullmatch(r"[\w~-]+", PACK.name, re.ASCII) or not hasattr(PromptServer, "instance"):
        return
    asked, whole = re.escape(re.split("[.@]", PACK.name)[0]), re.escape(PACK.name)
    serve(f"/extensions/{{pack:{asked}}}/docs", r"(images/)?HSpace\w+\.(md|jpg)", PACK / "web" / "docs")
    serve(f"/workflow_templates/{{pack:{whole}}}", r"[\w -]+\.(json|jpg)", PACK / "example_workflows")


def serve(prefix: str, names: str, folder: Path) -> None:
    """The files of a folder whose names match, and no others."""

    async def file(request: web.Request) -> web.StreamResponse:
        path = folder / request.match_info["file"]
        return web.FileResponse(path) if path.is_file() else web.Response(status=404)

    PromptServer.instance.routes.get(f"{prefix}/{{file:{names}}}")(file)


def register_banks() -> None:
    """Let who has sampled a bank on this server read it: `tools.capture` brings its shards home."""
    if not hasattr(PromptServer, "instance"):
        return
    routes = PromptServer.instance.routes
    routes.get("/hspace/version")(_version)
    routes.get("/hspace/shards")(_shards)
    routes.get("/hspace/shard")(_shard)


async def _version(request: web.Request) -> web.Response:
    (version,) = re.findall(r'^version = "(.+)"$', (PACK / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    return web.json_response({"version": version})


async def _shards(request: web.Request) -> web.Response:
    """Name, size and seeds of each shard of the bank in a folder."""
    found = {path.name: {"bytes": path.stat().st_size, "seeds": sorted(seeds_in([path]))} for path in _paths(request)}
    return web.json_response(found)


async def _shard(request: web.Request) -> web.StreamResponse:
    for path in _paths(request):
        if path.name == request.query.get("file"):
            return web.FileResponse(path)
    raise web.HTTPNotFound


def _paths(request: web.Request) -> list[Path]:
    """The shards in the folder that a request names. `HTTPNotFound` unless it is one of a bank's."""
    root = Path(folder_paths.get_folder_paths(BANKS)[0])
    try:
        folder = safe_path(root, request.query.get("folder", ""), suffix="")
    except ValueError as error:
        raise web.HTTPNotFound(text=str(error)) from error
    return [path for path in sorted(folder.glob("*.safetensors")) if stays_inside(folder, path)]
