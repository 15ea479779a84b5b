"""What a patch at a site is told, and what it is."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


def is_of_text(site: str) -> bool:
    """Then h is a row of tokens: the site is what a transformer's block makes of the text."""
    return site.endswith(".text")


@dataclass(frozen=True, eq=False)
class SiteCall:
    """One evaluation of the model, as it passes a site."""

    site: str
    h: Tensor
    """`(b, c, h, w)`: what all prompts of the batch have there."""
    x: Tensor
    """`(b, channels, height, width)`, of clips `(b, channels, frames, height, width)`: the sampler's latents."""
    timesteps: Tensor
    """`(b,)`, model time, all the same."""
    options: dict
    """ComfyUI's `transformer_options`."""

    @property
    def is_clip(self) -> bool:
        """Then h is a map of its frames by their places."""
        return self.x.ndim == 5 and self.x.shape[2] > 1

    @property
    def timestep(self) -> float:
        """Read from the device, which waits for it."""
        return float(self.timesteps[0])


SitePatch = Callable[[SiteCall], Tensor]
"""What takes the place of h; it leaves what it is given as it is."""
