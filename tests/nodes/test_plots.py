"""What is drawn in plots and sheets: the right labels, and the right values in the right places."""

import importlib

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.comfy


@pytest.fixture
def plots(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.ui.plots")


@pytest.fixture
def figures(plots, monkeypatch):
    """`plots` whose functions give figures in place of their pixels."""
    monkeypatch.setattr(plots, "_image", lambda figure: figure)
    return plots


def words(axis) -> list[str]:
    return [text.get_text() for text in axis.texts]


def test_a_heat_map_has_each_value_in_its_cell_and_names_its_rows_and_columns(figures):
    table = torch.tensor([[1.0, -0.5, 0.25], [0.0, 0.75, -1.0]])
    figure = figures.heat_maps({"": table}, title="Cosine", rows=["a", "b"], columns=["x", "y", "z"], bound=1.0)
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["x", "y", "z"]
    shown = {text.get_position(): float(text.get_text()) for text in axis.texts}
    assert shown == {(x, y): table[y, x].item() for y in range(2) for x in range(3)}
    assert np.array_equal(axis.images[0].get_array(), table.numpy())


def test_heat_maps_colour_plus_blue_minus_orange_and_zero_white(plots):
    colours = plots._colours()
    assert np.allclose(colours(0.5)[:3], 1, atol=0.01)
    assert colours(1.0)[2] > colours(1.0)[0]
    assert colours(0.0)[0] > colours(0.0)[2]


def test_a_spectrum_has_a_named_curve_for_each_direction_with_noise_on_the_left(figures):
    x = torch.tensor([999.0, 500.0, 0.0])
    curves = {f"{i}: age": (x, torch.tensor([0.1, 0.2, 0.3]) * i) for i in range(1, 10)}
    figure = figures.spectrum_plot(curves, title="explained variance ratio", x_label="timestep", falling=True)
    (axis,) = figure.axes
    assert [line.get_label() for line in axis.lines] == list(curves)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(curves)
    left, right = axis.get_xlim()
    assert left > right
    assert len({(line.get_color(), line.get_marker()) for line in axis.lines}) == len(curves)
    for line, (_, y) in zip(axis.lines, curves.values(), strict=True):
        assert np.array_equal(line.get_ydata(), y.numpy())


def test_bars_say_their_numbers(figures):
    figure = figures.bars({"h": [0.93, 0.15], "noise": [0.07, -0.02]}, ["0 to 1", "0 to 0.3"], title="t", width=800)
    (axis,) = figure.axes
    assert words(axis) == ["0.93", "0.15", "0.07", "-0.02"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0 to 1", "0 to 0.3"]
    assert [bar.get_height() for bar in axis.patches] == [0.93, 0.15, 0.07, -0.02]


def test_bars_are_as_wide_as_wanted(plots):
    assert plots.bars({"h": [1.0]}, ["all"], title="t", width=777).shape[2] == 777


def test_line_plots_have_a_panel_for_each_curve_as_sampling_goes(figures):
    x = torch.tensor([900.0, 600.0, 300.0])
    curves = {"predicted": torch.tensor([1.0, 0.5, 0.1]), "noisy": torch.tensor([2.0, 1.0, 0.4])}
    figure = figures.line_plots(x, curves, title="t", x_label="timestep")
    for axis, (name, y) in zip(figure.axes, curves.items(), strict=True):
        (line,) = axis.lines
        assert axis.get_title() == name
        assert np.array_equal(line.get_xdata(), x) and np.array_equal(line.get_ydata(), y)
        assert axis.get_xlim() == (900, 300)


def test_the_card_shows_norms_and_the_layout_over_the_picture(figures):
    layout = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    norms, x = torch.tensor([3.0, 4.0]), torch.tensor([900.0, 100.0])
    figure = figures.card("found by: PCA", x, norms, layout, title="age", picture=torch.rand(6, 8, 3))
    upper, lower, _ = figure.get_axes()
    assert [text.get_text() for part in figure.subfigs for text in part.texts] == ["age", "found by: PCA"]
    assert np.array_equal(upper.lines[0].get_ydata(), norms.numpy())
    under, over = lower.images
    assert under.get_array().shape == (6, 8)
    assert np.allclose(over.get_array(), layout / 0.4)
    assert tuple(under.get_extent()) == tuple(over.get_extent()) == (0, 8, 6, 0)


@pytest.fixture
def picture(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.ui.sheets")


def sheet(picture, columns=("0", "+1"), rows=("seed 0", "seed 1"), title="age", **more):
    pictures = torch.linspace(0, 1, 4).reshape(2, 2, 1, 1, 1).expand(2, 2, 64, 64, 3)
    return picture.grid(pictures, title=title, row_labels=rows, column_labels=columns, size=64, **more)[0]


def test_each_picture_lies_in_the_cell_of_its_row_and_column(picture):
    whole = sheet(picture)
    middle = whole.shape[0] - 38, whole.shape[1] - 38  # of the last picture
    cells = [whole[y, x, 0].item() for y in (middle[0] - 66, middle[0]) for x in (middle[1] - 66, middle[1])]
    assert cells == pytest.approx([0, 1 / 3, 2 / 3, 1], abs=0.01)


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"columns": ("0", "+2")}, lambda h, w: (slice(0, h - 130), slice(w - 70, w))),
        ({"rows": ("seed 0", "seed 7")}, lambda h, w: (slice(h - 70, h), slice(0, w - 130))),
        ({"title": "ago"}, lambda h, w: (slice(0, h - 140), slice(0, w))),
    ],
)
def test_each_label_is_written_where_it_belongs(picture, changed, where):
    one, other = sheet(picture), sheet(picture, **changed)
    differs = (one != other).any(-1)
    assert differs.any()
    inside = torch.zeros_like(differs)
    inside[where(*differs.shape)] = True
    assert not (differs & ~inside).any()


def test_only_highlighted_columns_are_framed(picture):
    accent = torch.tensor([0x00, 0x72, 0xB2]) / 255
    framed = (sheet(picture, highlighted=[0]) - accent).abs().amax(-1) < 0.01
    assert framed[-8:].any()  # the frame's lower edge
    assert not ((sheet(picture) - accent).abs().amax(-1) < 0.01)[20:].any()


def test_a_strip_holds_the_pictures_side_by_side(picture):
    pictures = torch.linspace(0, 1, 3).reshape(3, 1, 1, 1).expand(3, 40, 20, 3)
    strip = picture.strip(pictures, 20)
    assert strip.shape == (1, 20, 30, 3)
    assert strip[0, 10, 5::10, 0].tolist() == pytest.approx([0, 0.5, 1], abs=0.01)
