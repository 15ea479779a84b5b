"""Plots as ComfyUI images, in one style. Colours are told apart by colour-blind people too (Okabe and Ito)."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

BLUE, ORANGE, INK, FAINT = "#0072b2", "#d55e00", "#1b1b1f", "#6b6b76"
SERIES = (BLUE, ORANGE, "#009e73", "#cc79a7", "#56b4e9", "#e69f00", INK)
MARKERS = "os^Dv<>"
DPI = 120


def line_plots(
    x: Tensor,
    curves: Mapping[str, Tensor],
    *,
    title: str,
    x_label: str,
) -> Tensor:
    """An IMAGE `(1, height, width, 3)`: a panel for each curve `(t,)`, side by side, the first x on the left."""
    figure = _figure(3.6 * len(curves), 2.9)
    figure.suptitle(title, color=INK, fontsize=11, parse_math=False)
    for axis, (name, y), colour in zip(
        figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), (BLUE, ORANGE)[: len(curves)], strict=True
    ):
        axis.plot(x, y, "o-", color=colour, markersize=4, linewidth=1.6)
        axis.set_title(name, fontsize=10, color=INK)
        known = y[torch.isfinite(y)].tolist()
        axis.set_ylim(min(0.0, *known) - 0.05 if known else 0.0, max(1.05, *known) * 1.05 if known else 1.0)
        if len(x) > 1:
            axis.set_xlim(float(x.max()), float(x.min()))  # as sampling goes
        _dress(axis, x_label)
    return _image(figure)


def loss_curve(losses: Sequence[float]) -> Tensor:
    """An IMAGE `(1, height, width, 3)`: the loss of each round."""
    figure = _figure(6.4, 2.6)
    axis = figure.subplots()
    axis.plot(range(1, len(losses) + 1), losses, "o-", color=BLUE, markersize=3, linewidth=1.4)
    axis.set_ylim(0, max(losses) * 1.05 or 1)
    _dress(axis, "round", "loss")
    return _image(figure)


def spectrum_plot(curves: Mapping[str, tuple[Tensor, Tensor]], *, title: str, x_label: str, falling: bool) -> Tensor:
    """An IMAGE `(1, height, width, 3)`: curves of `x` and `y` in one panel with a legend.

    `falling` x are drawn as sampling goes, the largest on the left; others are whole numbers. From 7 curves on colours
    come again, with other markers.
    """
    figure = _figure(7.2, 3.6)
    axis = figure.subplots()
    for i, (name, (x, y)) in enumerate(curves.items()):
        marker = MARKERS[i // len(SERIES) % len(MARKERS)]
        axis.plot(x, y, marker + "-", color=SERIES[i % len(SERIES)], markersize=4, linewidth=1.4, label=name)
    axis.set_ylim(bottom=0)
    if falling:
        axis.invert_xaxis()
    else:
        axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_title(title, fontsize=11, color=INK, parse_math=False)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False, labelcolor=INK)
    _dress(axis, x_label)
    return _image(figure)


def bars(groups: Mapping[str, Sequence[float]], labels: Sequence[str], *, title: str, width: int) -> Tensor:
    """An IMAGE `(1, height, width, 3)` of `width` pixels: for each label a bar of each group, with its number."""
    figure = _figure(width / DPI, 2.8)
    axis = figure.subplots()
    share = 0.8 / len(groups)
    for i, (name, values) in enumerate(groups.items()):
        places = np.arange(len(labels)) + (i - (len(groups) - 1) / 2) * share
        drawn = axis.bar(places, values, share * 0.92, color=SERIES[i], label=name)
        axis.bar_label(drawn, [f"{value:.2f}" for value in values], fontsize=8, color=INK, padding=2)
    axis.set_xticks(range(len(labels)), labels)
    everything = [value for values in groups.values() for value in values]
    axis.set_ylim(min(0.0, *everything) * 1.15, max(1.0, *everything) * 1.15)
    axis.axhline(0, color=FAINT, linewidth=0.8)
    axis.set_title(title, fontsize=10, color=INK, parse_math=False)
    axis.legend(fontsize=8, frameon=False, labelcolor=INK)
    _dress(axis)
    axis.tick_params(axis="x", colors=INK)
    return _image(figure)


def tracks(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    marks: Mapping[str, tuple[float, float]],
    *,
    x_label: str,
    y_label: str,
    width: int,
) -> Tensor:
    """An IMAGE `(1, height, width, 3)` of `width` pixels: curves through points in one panel, and single points."""
    figure = _figure(width / DPI, 3.4)
    axis = figure.subplots()
    for i, (name, points) in enumerate(curves.items()):
        marker = MARKERS[i // len(SERIES) % len(MARKERS)]
        axis.plot(*zip(*points, strict=True), marker + "-", color=SERIES[i % len(SERIES)], markersize=4, label=name)
    for name, (x, y) in marks.items():
        axis.plot(x, y, "*", color=INK, markersize=12, label=name)
    axis.axvline(1, color=FAINT, linewidth=0.8, linestyle=":")
    axis.set_ylim(bottom=0)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False, labelcolor=INK)
    _dress(axis, x_label, y_label)
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


def card(words: str, x: Tensor, norms: Tensor, layout: Tensor, *, title: str, picture: Tensor | None) -> Tensor:
    """An IMAGE `(1, height, width, 3)`: what is known of a direction, its norm over timesteps, where its energy lies.

    `layout (h, w)` is drawn over `picture (height, width, 3)` in 0..1, if there is one.
    """
    figure = _figure(7.6, 4.2)
    text, plots = figure.subfigures(1, 2, width_ratios=(1.3, 1))
    text.text(0.04, 0.95, title, fontsize=15, color=INK, va="top", parse_math=False)
    text.text(0.04, 0.85, words, fontsize=9.5, color=INK, va="top", linespacing=1.5, parse_math=False)
    upper, lower = plots.subplots(2, 1, height_ratios=(1, 1.9))
    upper.plot(x, norms, "o-", color=BLUE, markersize=4, linewidth=1.6)
    upper.set_ylim(bottom=0)
    if len(x) > 1:
        upper.invert_xaxis()
    upper.set_title("norm", fontsize=9, color=INK)
    _dress(upper, "timestep")
    height, width = picture.shape[:2] if picture is not None else layout.shape
    extent = (0, width, height, 0)
    if picture is not None:
        lower.imshow(picture.mean(-1), cmap="gray", vmin=0, vmax=1, extent=extent)
    shown = lower.imshow(
        layout / layout.max().clamp(min=1e-300), cmap="cividis", vmin=0, vmax=1, interpolation="bilinear",
        alpha=1.0 if picture is None else 0.55, extent=extent,
    )  # fmt: skip
    lower.set_title("where its energy lies", fontsize=9, color=INK)
    lower.set_axis_off()
    plots.colorbar(shown, ax=lower, ticks=[0, 1], fraction=0.05).ax.set_yticklabels(["none", "most"], fontsize=8)
    return _image(figure)


def _dress(axis, x_label: str = "", y_label: str = "") -> None:
    axis.set_xlabel(x_label, fontsize=9, color=FAINT)
    axis.set_ylabel(y_label, fontsize=9, color=FAINT)
    axis.grid(alpha=0.3)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8, colors=FAINT)


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
