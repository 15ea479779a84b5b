"""ComfyUI's side of the pack: thin nodes around `directions`, no mathematics."""

from comfy_api.latest import ComfyExtension, io

from . import (
    algebra,
    asyrp,
    classifier,
    explore,
    faces,
    files,
    find,
    inject,
    invert,
    jacobian,
    judge,
    leakage,
    learn,
    load,
    mark,
    probe,
    record,
    scores,
    show,
    spectrum,
    stack,
    supervised,
    sweep,
    text,
    window,
)
from .folders import register_folders
from .pages import register_pages
from .replaced import register_replacements


class HSpaceExtension(ComfyExtension):
    async def on_load(self) -> None:
        register_folders()
        register_pages()
        await register_replacements()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        modules = [
            *(load, faces, record, find, classifier, scores, text, mark, supervised, jacobian, invert),
            *(judge, learn, window, spectrum, probe),
            *(algebra, files, show, inject, stack, asyrp, sweep, explore, leakage),
        ]
        return [node for module in modules for node in module.NODES]
