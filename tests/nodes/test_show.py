"""What Show Direction says of one direction, of several, and of a finder's."""

import csv
import io
import json
from dataclasses import replace

import pytest
import torch

pytestmark = pytest.mark.comfy


@pytest.fixture
def show(faces):
    node = faces.node("HSpaceShowDirection")
    return lambda *inputs: node.execute(*inputs).result


def test_the_info_holds_everything_that_a_direction_knows(faces, show):
    recipe = json.dumps({"find": "PCA", "component": 2, "bank": {"sampler": "euler", "sigmas": [3.0, 0.0]}})
    direction = replace(faces.direction("age", 0), recipe=recipe, author="Ada")
    card, info, table = show(direction)
    assert table == ""
    for line in (
        "name: age", "found by: random", "strength 1: one", "made by: Ada", "fits models of family: DDPM",
        "weights it was found in: 0", "picture: 64x64", "sites: middle (128 channels, 8x8)", "timesteps: 3, 999 to 0",
        "  find: PCA", "  component: 2", "  bank:", "    sampler: euler", "    sigmas: 3.0, 0.0",
    ):  # fmt: skip
        assert line in info.split("\n"), line
    changed = (card != show(replace(direction, author="Bob"))[0]).any(-1)[0]
    words, drawings = changed.tensor_split([round(0.55 * changed.shape[1])], dim=1)
    assert words.any() and not drawings.any()


def test_recipes_of_every_kind_are_written_out(faces, show):
    a, b = faces.direction("a", 0), faces.direction("b", 1)
    info = show(a + 0.5 * b)[1].split("\n")
    assert "  sum:" in info and "    2:" in info and "      times:" in info
    assert "made by: not said" in info
    for odd in ("3", '"by hand"', "[]", "null"):  # no node writes such, a file may hold them
        assert show(replace(a, recipe=odd))[1]
    orthogonal = faces.directions.orthogonalise(a, [b])
    assert "  protected:" in show(orthogonal)[1].split("\n")


def test_a_recipe_too_long_for_the_card_says_where_the_rest_is(faces):
    shortened = faces.module("nodes.library.show").shortened
    assert shortened("a\nb") == "a\nb"
    lines = shortened("\n".join(map(str, range(100)))).split("\n")
    assert len(lines) == faces.module("nodes.library.show").CARD_LINES
    assert lines[-1] == "... (the rest is in info)"


def test_a_picture_may_lie_under_the_heat_map(faces, show):
    direction = faces.direction("age", 0)
    under_black, under_white = (show(direction, torch.full((1, 48, 64, 3), level))[0] for level in (0.0, 1.0))
    words = round(0.55 * under_black.shape[2])
    assert torch.equal(under_black[:, :, :words], under_white[:, :, :words])
    assert (under_white - under_black)[:, :, words:].max() > 0.3  # the map hides a half of it


def test_with_others_the_cosines_are_below_the_card_and_can_be_read_back(faces, show):
    a, b = faces.direction("age, old", 0), faces.direction('"b"', 1)
    mixed = (a + b).renamed("mixed")
    card, info, _ = show(a)
    # as ComfyUI hands over a list that grows
    shown, told, text = show(a, None, {"direction0": b, "direction1": None, "direction2": mixed})
    assert told == info
    assert torch.equal(shown[:, : card.shape[1], : card.shape[2]], card) and shown.shape[1] > card.shape[1]
    (corner, *columns), *rows = csv.reader(io.StringIO(text))
    assert corner == ""
    assert columns == [row[0] for row in rows] == ["age, old", '"b"', "mixed"]
    table = torch.tensor([[float(entry) for entry in row[1:]] for row in rows], dtype=torch.float64)
    expected = faces.directions.cosines([a, b, mixed])
    torch.testing.assert_close(table, expected, atol=5e-5, rtol=0)  # four digits are written
    assert expected[0, 2] > 0.5


def test_the_spectrum_of_a_set_has_a_curve_a_line_and_numbers_for_each_direction(faces, bank, show):
    found = faces.directions.find_components(bank, 3)
    curves, over_timesteps = faces.module("nodes.library.show").curves_of(found)
    assert over_timesteps
    assert list(curves) == [f"{i}: component {i}" for i in (1, 2, 3)]
    for (x, y), values in zip(curves.values(), found.spectrum, strict=True):
        assert torch.equal(x, bank.timesteps) and torch.equal(y, values)
    plot, info, text = show(found, None, None, 2)
    lines = info.split("\n")
    assert [line.split(",")[0] for line in lines] == list(curves)
    assert f"{found.spectrum_name} up to {found.spectrum[0].max():.3g}" in lines[0]
    columns, *rows = csv.reader(io.StringIO(text))
    assert columns == ["curve", "timestep", found.spectrum_name]
    assert [float(row[2]) for row in rows] == pytest.approx(found.spectrum.flatten().tolist(), abs=5e-5)
    assert not torch.equal(plot, show(found, None, None, 3)[0])  # two curves, three curves


def test_a_set_beside_others_is_refused(faces, bank, show):
    with pytest.raises(ValueError, match="got 1 others. Take one out of them with Pick Direction"):
        show(faces.directions.find_components(bank, 2), None, {"direction0": faces.direction("b", 1)})


def test_directions_of_one_timestep_each_are_a_curve_for_each_timestep(faces):
    a, b = faces.direction("a", 0), faces.direction("b", 1)
    single = [
        replace(d, deltas={"middle": d.deltas["middle"][:1]}, timesteps=torch.tensor([t]))
        for t in (777.0, 333.0)
        for d in (a, b)
    ]
    spectrum = torch.tensor([[4.0], [3.0], [2.0], [1.0]]).double()
    curves, over_timesteps = faces.module("nodes.library.show").curves_of(
        faces.directions.DirectionSet(tuple(single), spectrum, "singular value")
    )
    assert not over_timesteps
    assert {name: (x.tolist(), y.tolist()) for name, (x, y) in curves.items()} == {
        "timestep 777": ([1, 2], [4.0, 3.0]),
        "timestep 333": ([1, 2], [2.0, 1.0]),
    }
