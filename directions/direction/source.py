"""Where h was recorded: what a direction must say of itself to be used elsewhere."""

from dataclasses import dataclass

MIDDLE = "middle"
"""The bottleneck, h-space proper: the UNet's middle block's output, "after" in Haas et al.'s code."""


@dataclass(frozen=True)
class Source:
    """Where h was recorded. A direction fits only models of the same family that have its sites."""

    family: str
    """ComfyUI's name of the model family, such as "SD15", "SDXL" or "DDPM"."""
    fingerprint: str
    """Digest of the weights it was recorded with."""
    branch: str
    """"positive" or "negative": the side of the guidance h was read from."""
    image_size: tuple[int, int]
    """Width and height in pixels."""

    def require_match(self, other: "Source") -> None:
        """`ValueError` unless a direction from `other` can live where this one does."""
        if other.family != self.family:
            raise ValueError(
                f"The directions come from different models: got model family {other.family}, wanted {self.family}. "
                "Find both with the same model."
            )
