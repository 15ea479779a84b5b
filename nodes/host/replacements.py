"""Nodes that got another id: workflows saved with the old one are opened with the new one."""

from comfy_api.latest import ComfyAPI, io

REPLACED: tuple[io.NodeReplace, ...] = ()
"""An entry for each id that was given up. Ids that were shipped are never used again for something else."""


async def register_replacements() -> None:
    for each in REPLACED:
        await ComfyAPI().node_replacement.register(each)
