"""Semantic directions in h-space, the bottleneck of a diffusion model's UNet: find, save, combine, inject."""

WEB_DIRECTORY = "./web"
HOOK = "set_model_middle_block_after_patch"
"""ComfyUI's patch point at the bottleneck, since 0.20.0."""


async def comfy_entrypoint():
    """The extension with all nodes; imported late, so that the package itself needs no ComfyUI.

    `ValueError` where ComfyUI is older than `HOOK`.
    """
    from comfy.model_patcher import ModelPatcher

    if not hasattr(ModelPatcher, HOOK):
        from comfyui_version import __version__

        raise ValueError(
            f"This ComfyUI is too old for h-space Directions: got {__version__}, which has no {HOOK}, wanted 0.20.1 "
            "or newer. Update ComfyUI and start it again."
        )
    from .nodes import HSpaceExtension

    return HSpaceExtension()
