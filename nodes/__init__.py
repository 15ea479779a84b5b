"""ComfyUI's side of the pack: thin nodes around `directions`, no mathematics."""

from comfy_api.latest import ComfyExtension, io

from . import files, find, inject, load, record, sweep
from .folders import register_folders


class HSpaceExtension(ComfyExtension):
    async def on_load(self) -> None:
        register_folders()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [*load.NODES, *record.NODES, *find.NODES, *files.NODES, *inject.NODES, *sweep.NODES]
