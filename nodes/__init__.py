"""ComfyUI's side of the pack: thin nodes around `directions`, no mathematics. A folder for each verb."""

from comfy_api.latest import ComfyExtension, io

from . import capture, combine, find, inject, label, library
from .host import register_banks, register_folders, register_pages, register_replacements


class HSpaceExtension(ComfyExtension):
    async def on_load(self) -> None:
        register_folders()
        register_pages()
        register_banks()
        await register_replacements()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [node for verb in (capture, label, find, combine, library, inject) for node in verb.NODES]
