"""Progress of a finder, which knows nothing of ComfyUI."""

from collections.abc import Callable

import comfy.model_management
import comfy.utils


def finder_progress() -> Callable[[int, int], None]:
    """For a finder: moves the node's bar, and stops when the user does."""
    bar = comfy.utils.ProgressBar(1)

    def on_progress(done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return on_progress
