"""Semantic directions in h-space, the bottleneck of a diffusion model's UNet: find, save, combine, inject."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """The extension with all nodes; imported late, so that the package itself needs no ComfyUI."""
    from .nodes import HSpaceExtension

    return HSpaceExtension()
