"""What Show Direction and Plot Spectrum say."""

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
    card, info = show(direction)
    for line in (
        "name: age", "found by: random", "strength 1: one", "made by: Ada", "fits models of family: DDPM",
        "weights it was found in: 0", "picture: 64x64", "bottleneck: 128 channels, 8x8", "timesteps: 3, 999 to 0",
        "  find: PCA", "  component: 2", "  bank:", "    sampler: euler", "    sigmas: 3.0, 0.0",
    ):  # fmt: skip
        assert line in info.split("\n"), line
    assert card.shape[0] == 1 and card.shape[3] == 3


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
    assert not torch.equal(show(direction, torch.zeros(1, 48, 64, 3))[0], show(direction)[0])


def test_a_spectrum_over_timesteps_has_a_curve_for_each_direction(faces, bank):
    spectrum = faces.module("nodes.library.spectrum")
    found = faces.directions.find_components(bank, 3)
    curves, over_timesteps = spectrum.curves_of(found)
    assert over_timesteps
    assert list(curves) == [f"{i}: component {i}" for i in (1, 2, 3)]
    for (x, y), values in zip(curves.values(), found.spectrum, strict=True):
        assert torch.equal(x, bank.timesteps) and torch.equal(y, values)
    plot, table = spectrum.HSpacePlotSpectrum.execute(found, 2).result
    assert len(table.splitlines()) == 1 + 3 * len(bank.timesteps)
    assert plot.shape[0] == 1


def test_directions_of_one_timestep_each_are_a_curve_for_each_timestep(faces):
    a, b = faces.direction("a", 0), faces.direction("b", 1)
    single = [replace(d, delta=d.delta[:1], timesteps=torch.tensor([t])) for t in (777.0, 333.0) for d in (a, b)]
    spectrum = torch.tensor([[4.0], [3.0], [2.0], [1.0]]).double()
    curves, over_timesteps = faces.module("nodes.library.spectrum").curves_of(
        faces.directions.DirectionSet(tuple(single), spectrum, "singular value")
    )
    assert not over_timesteps
    assert {name: (x.tolist(), y.tolist()) for name, (x, y) in curves.items()} == {
        "timestep 777": ([1, 2], [4.0, 3.0]),
        "timestep 333": ([1, 2], [2.0, 1.0]),
    }
