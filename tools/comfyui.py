"""Which ComfyUI is used, and how this pack gets into its `custom_nodes`."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PINNED = ROOT / ".comfyui" / "ComfyUI"
FOLDER = "hspace-directions"


def is_comfyui(folder: Path) -> bool:
    return (folder / "main.py").is_file() and (folder / "comfy").is_dir()


def find_comfyui() -> Path | None:
    """`COMFYUI_PATH`, else the ComfyUI whose `custom_nodes` holds this pack, else the pinned copy if it is there."""
    if chosen := os.environ.get("COMFYUI_PATH"):
        folder = Path(chosen).expanduser().resolve()
        if not is_comfyui(folder):
            raise ValueError(
                f"COMFYUI_PATH is {folder}, which holds no ComfyUI (main.py and comfy/): correct or unset it"
            )
        return folder
    if ROOT.parent.name == "custom_nodes" and is_comfyui(ROOT.parents[1]):
        return ROOT.parents[1]
    return PINNED if is_comfyui(PINNED) else None


def link_pack(base: Path) -> str:
    """The name of this pack's folder in `base/custom_nodes`; a link is made there unless the pack is there already."""
    custom_nodes = base / "custom_nodes"
    custom_nodes.mkdir(parents=True, exist_ok=True)
    for entry in custom_nodes.iterdir():
        if entry.resolve() == ROOT:
            return entry.name
    link = custom_nodes / FOLDER
    if link.exists() or link.is_symlink():
        raise ValueError(f"{link} is there already and is not this pack: move it away")
    # Relative inside the clone, so that the clone may be moved or copied.
    link.symlink_to(os.path.relpath(ROOT, custom_nodes) if ROOT in custom_nodes.parents else ROOT)
    return FOLDER
