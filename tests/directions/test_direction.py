import json

import pytest
import torch
from planted import SOURCE, TIMESTEPS, direction

from directions import Direction, DirectionSet, Source


def test_a_direction_minus_itself_is_exactly_zero():
    d = direction()
    assert not (d - d).deltas["middle"].any()


def test_addition_commutes_and_scaling_distributes():
    a, b = direction(1), direction(2)
    assert torch.equal((a + b).deltas["middle"], (b + a).deltas["middle"])
    torch.testing.assert_close((2 * (a + b)).deltas["middle"], (2 * a + b * 2).deltas["middle"])


def test_a_direction_is_itself_at_its_own_timesteps():
    d = direction()
    assert torch.equal(d.at("middle", d.timesteps), d.deltas["middle"])


def test_a_direction_is_linear_between_its_timesteps_and_held_outside():
    d = direction()
    between, above, below = d.at("middle", torch.tensor([675.0, 999.0, 3.0]))
    torch.testing.assert_close(between, 0.25 * d.deltas["middle"][0] + 0.75 * d.deltas["middle"][1])
    assert torch.equal(above, d.deltas["middle"][0])
    assert torch.equal(below, d.deltas["middle"][-1])


def test_a_constant_direction_is_the_same_at_every_timestep():
    d = direction(timesteps=torch.tensor([500.0]))
    assert torch.equal(d.at("middle", torch.tensor([999.0, 0.0])), d.deltas["middle"].expand(2, -1, -1, -1))


def test_a_sum_is_the_sum_of_the_interpolations_whatever_the_timesteps_of_its_parts():
    a, b = direction(1), direction(2, torch.tensor([800.0, 450.0, 50.0]))
    asked = torch.linspace(999, 0, 40)
    # float32 interpolation between nearer neighbours rounds differently: a few units in the last place
    torch.testing.assert_close(
        (a + b).at("middle", asked), a.at("middle", asked) + b.at("middle", asked), atol=1e-5, rtol=1e-5
    )


def test_the_recipe_of_a_combination_tells_its_parts():
    a, b = direction(1, recipe='{"find": "a"}'), direction(2, recipe='{"find": "b"}')
    assert (a - b).recipe == '{"sum": [{"find": "a"}, {"times": [-1.0, {"find": "b"}]}]}'


def test_the_recipe_of_a_combination_of_combinations_is_one_list_of_its_parts():
    a, b, c = (direction(seed, recipe=f'{{"find": {seed}}}') for seed in (1, 2, 3))
    made = 2 * (a - (b + 3 * c)) + b
    assert json.loads(made.recipe) == {
        "sum": [
            {"times": [2, {"find": 1}]},
            {"times": [-2, {"find": 2}]},
            {"times": [-6, {"find": 3}]},
            {"find": 2},
        ]
    }
    assert (-1 * -a).recipe == (a * 1).recipe == a.recipe


def test_recipes_that_were_nested_in_older_files_become_flat_when_they_are_combined():
    nested = {"sum": [{"sum": [{"find": 1}, {"times": [2, {"times": [3, {"find": 2}]}]}]}, {"find": 3}]}
    made = direction(1, recipe=json.dumps(nested)) + direction(2, recipe='{"find": 4}')
    assert json.loads(made.recipe) == {
        "sum": [{"find": 1}, {"times": [6, {"find": 2}]}, {"find": 3}, {"find": 4}],
    }


@pytest.mark.parametrize(
    "recipe", ['{"sum": []}', '{"sum": 3}', '{"times": [2]}', '{"times": ["2", 1]}', f'{{"times": [{10**400}, 1]}}',
               '{"times": [NaN, 1]}', '{"sum": [1], "of": 2}', '{"times": [2, 1], "of": 2}'],
)  # fmt: skip
def test_what_only_looks_like_a_combination_is_kept_as_it_is(recipe):
    assert (direction(recipe=recipe) * 2).recipe == f'{{"times": [2.0, {recipe}]}}'


def test_directions_are_equal_by_value():
    assert direction(1) == direction(1)
    assert direction(1) != direction(2)
    assert direction(1) != direction(1, unit="another")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"deltas": {"middle": torch.full((4, 6, 5, 5), float("nan"))}}, "NaN or infinity"),
        ({"deltas": {"middle": torch.zeros(4, 6, 25)}}, "must be float32 of shape"),
        ({"deltas": {"middle": torch.zeros(4, 6, 5, 5).double()}}, "must be float32"),
        ({"deltas": {"middle": torch.zeros(3, 6, 5, 5)}}, "one float32 timestep for each delta"),
        ({"deltas": {"middle": torch.zeros(4, 0, 5, 5)}}, "must not be empty"),
        ({"timesteps": TIMESTEPS.flip(0)}, "must descend"),
        ({"deltas": {}}, "must have a site"),
        ({"spreads": {"output.3": torch.ones(4)}}, "spread at output.3 must be .* of a site it has"),
        ({"spreads": {"middle": torch.zeros(4)}}, "must be a positive float32 number"),
        ({"spreads": {"middle": torch.ones(3)}}, "for each timestep"),
    ],
)
def test_a_broken_direction_is_refused(change, message):
    fields = {"deltas": {"middle": torch.zeros(4, 6, 5, 5)}, "timesteps": TIMESTEPS} | change
    with pytest.raises(ValueError, match=message):
        Direction(**fields, name="d", method="m", unit="u", source=SOURCE, recipe="{}")


def test_directions_of_different_models_do_not_add():
    with pytest.raises(ValueError, match="got model family SDXL, wanted DDPM"):
        direction() + direction(source=Source("SDXL", "0", "positive", (64, 64)))


def test_directions_of_different_sizes_do_not_add():
    with pytest.raises(ValueError, match=r"got \(6, 8, 8\), wanted \(6, 5, 5\)"):
        direction() + direction(shape=(6, 8, 8))


def test_picking_beyond_a_set_says_what_it_holds():
    directions = DirectionSet((direction(1), direction(2)), torch.ones(2, 4), "ones")
    assert directions[1] == direction(2)
    with pytest.raises(ValueError, match="no direction 3: the set holds 2"):
        directions[2]


def test_twice_a_direction_is_usable_half_as_far():
    d = direction(usable=(-1.0, 2.0))
    assert (2 * d).usable == (-0.5, 1.0)
    assert (-d).usable == (-2.0, 1.0)
    assert (0 * d).usable is (d + d).usable is None  # nobody has measured a sum


@pytest.mark.parametrize("usable", [(0.1, 1.0), (-1.0, -0.1), (float("nan"), 1.0), (0.0, float("inf"))])
def test_a_usable_range_is_finite_and_has_0_in_it(usable):
    with pytest.raises(ValueError, match="usable from 0 or below"):
        direction(usable=usable)
