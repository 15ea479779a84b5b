"""A found direction on its way out of a node, with its split-half reliability as a plot and in words."""

import torch
from comfy_api.latest import io, ui

from ...directions import FoundDirection
from .plots import line_plots
from .types import HSpaceDirection


def finder_outputs() -> list:
    return [
        HSpaceDirection.Output(display_name="direction", tooltip="To Inject, Sweep, Orthogonalise or Save Direction."),
        io.Image.Output(display_name="plot", tooltip="Split-half reliability of the direction at each timestep."),
        io.String.Output(display_name="info", tooltip="The same in one line."),
    ]


def answer(found: FoundDirection, remark: str = "") -> io.NodeOutput:
    """Direction, plot and info with a remark; the plot is shown on the node too."""
    x = found.direction.timesteps
    curves = found.reliability.curves() if found.reliability else {"split-half cosine": torch.full_like(x, torch.nan)}
    plot = line_plots(x, curves, title=f'How steady "{found.direction.name}" is', x_label="timestep")
    info = found.summary() + remark
    return io.NodeOutput(found.direction, plot, info, ui=ui.PreviewImage(plot))


def usable_words(usable: tuple[float, float] | None) -> str:
    """From which strength to which a direction does what it is for."""
    if usable is None:
        return "not measured: a sweep of several seeds with strength 0 in it does"
    return f"from strength {usable[0]:g} to {usable[1]:g}" if any(usable) else "nowhere: pictures don't follow it"
