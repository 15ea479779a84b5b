"""The node's progress bar: over sampling calls, with ComfyUI's previews, and over the steps of a finder."""

from collections.abc import Callable

import comfy.model_management
import comfy.utils
import latent_preview
from PIL import Image
from torch import Tensor


class Progress:
    """The node's progress bar over several sampling calls, with ComfyUI's own previews."""

    def __init__(self, model, steps: int):
        self.bar = comfy.utils.ProgressBar(steps)
        self.previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
        self.done = 0

    def __call__(self, x0: Tensor) -> None:
        self.done += 1
        preview = self.previewer.decode_latent_to_preview_image("JPEG", x0) if self.previewer else None
        self.bar.update_absolute(self.done, preview=preview)

    def show(self, picture: Image.Image) -> None:
        """`picture` in place of the preview, until the next step."""
        self.bar.update_absolute(self.done, preview=("JPEG", picture, max(picture.size)))


def finder_progress() -> Callable[[int, int], None]:
    """For a finder: moves the node's bar, and stops when the user does."""
    bar = comfy.utils.ProgressBar(1)

    def on_progress(done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return on_progress
