"""Help pages and templates where the frontend asks for them, whatever the pack's folder is called.

The frontend cuts the folder's name at a dot or an @ when it asks for a help page, and ComfyUI's static routes never
match a name that an address has to quote: one with a space, an accent, a Chinese one.
"""

import re
from pathlib import Path

from aiohttp import web
from server import PromptServer

from .paths import PACK


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
