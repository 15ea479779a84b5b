"""Plots as ComfyUI images, in one style. Colours are told apart by colour-blind people too (Okabe and Ito)."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

BLUE, ORANGE, INK, FAINT = "#0072b2", "#d55e00", "#1b1b1f", "#6b6b76"
DPI = 120


def line_plots(x: Tensor, curves: Mapping[str, Tensor], *, title: str, x_label: str) -> Tensor:
    """An IMAGE `(1, height, width, 3)`: a panel for each curve `(t,)`, side by side, the first x on the left."""
    figure = _figure(3.6 * len(curves), 2.9)
    figure.suptitle(title, color=INK, fontsize=11, parse_math=False)
    for axis, (name, y), colour in zip(
        figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), (BLUE, ORANGE), strict=True
    ):
        axis.plot(x, y, "o-", color=colour, markersize=4, linewidth=1.6)
        axis.set_title(name, fontsize=10, color=INK)
        axis.set_xlabel(x_label, fontsize=9, color=FAINT)
        known = y[torch.isfinite(y)].tolist()
        axis.set_ylim(min(0.0, *known) - 0.05 if known else 0.0, max(1.05, *known) * 1.05 if known else 1.0)
        if len(x) > 1:
            axis.set_xlim(float(x.max()), float(x.min()))  # as sampling goes
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, colors=FAINT)
    return _image(figure)


def loss_curve(losses: Sequence[float]) -> Tensor:
    """An IMAGE `(1, height, width, 3)`: the loss of each round."""
    figure = _figure(6.4, 2.6)
    axis = figure.subplots()
    axis.plot(range(1, len(losses) + 1), losses, "o-", color=BLUE, markersize=3, linewidth=1.4)
    axis.set_xlabel("round", fontsize=9, color=FAINT)
    axis.set_ylabel("loss", fontsize=9, color=FAINT)
    axis.set_ylim(0, max(losses) * 1.05 or 1)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8, colors=FAINT)
    return _image(figure)


def heat_maps(
    tables: Mapping[str, Tensor],
    *,
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    bound: float,
    spreads: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """An IMAGE `(1, height, width, 3)`: tables `(rows, columns)` side by side with their numbers, white at 0.

    Orange is `-bound`, blue is `bound`. `spreads` are written below the numbers, after a plus-minus sign.
    """
    cell = 0.62 if spreads is None else 0.74
    figure = _figure(len(tables) * (1.6 + cell * len(columns)), 1.5 + cell * 0.8 * len(rows))
    figure.suptitle(title, color=INK, fontsize=11, parse_math=False)
    for axis, (name, table) in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables.items(), strict=True):
        axis.imshow(table, cmap=_colours(), vmin=-bound, vmax=bound, aspect="auto")
        axis.set_title(name, fontsize=10, color=INK)
        labels = dict(fontsize=9, color=INK, parse_math=False)
        axis.set_xticks(range(len(columns)), columns, rotation=40, ha="right", **labels)
        axis.set_yticks(range(len(rows)), rows, **labels)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        for (y, x), value in np.ndenumerate(table.numpy()):
            text = f"{value:+.2f}" + (f"\n±{spreads[name][y, x]:.2f}" if spreads else "")
            colour = "white" if abs(value) > 0.6 * bound else INK
            axis.text(x, y, text, ha="center", va="center", fontsize=8, color=colour)
    return _image(figure)


def _colours():
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("hspace", [ORANGE, "white", BLUE])


def _figure(width: float, height: float):
    from matplotlib.figure import Figure  # late: only those who look at a plot wait for it

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")


def _image(figure) -> Tensor:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return torch.from_numpy(np.asarray(canvas.buffer_rgba())[..., :3].copy()).unsqueeze(0) / 255
