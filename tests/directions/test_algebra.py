import json
from dataclasses import replace

import pytest
import torch
from planted import SHAPE, TIMESTEPS, direction

from directions import Source, Space, combine, cosines, orthogonalise

SPANS = ("whole trajectory", "each timestep")
FEW = torch.tensor([800.0, 450.0, 50.0])
ONE = torch.tensor([500.0])
spans = pytest.mark.parametrize("span", SPANS)


def nudged(d, part, seed=99):
    """`d` and a random piece of `part` of its norm."""
    return replace(d, deltas={"middle": d.deltas["middle"] + part * direction(seed, d.timesteps).deltas["middle"]})


def awkward():
    """Protected directions that repeat, nearly repeat, vanish, lean on each other, and differ in size by 1e10."""
    a, b = direction(1), direction(2)
    return [a, b, a, -2.0 * a, nudged(a, 1e-3), nudged(b, 1e-7), 0 * a, a + b, direction(3) * 1e5, direction(4) * 1e-5]


def eq_12(d, protected, span):
    """Haas et al., Eq. 12, as it is written: h - D (D' D)^-1 D' h, in float64 with a pseudoinverse."""
    space = Space.of([d, *protected])
    own, *others = (space.vector(each) for each in (d, *protected))
    shape = (1, -1) if span == "whole trajectory" else (len(space.timesteps), -1)
    left = []
    for i, h in enumerate(own.double().reshape(shape)):
        matrix = torch.stack([other.double().reshape(shape)[i] for other in others], 1)
        left.append(h - matrix @ (torch.linalg.pinv(matrix.T @ matrix, hermitian=True) @ (matrix.T @ h)))
    return torch.stack(left).reshape(-1, *SHAPE)


@spans
def test_what_is_left_agrees_with_the_formula_of_the_paper(span):
    d, protected = direction(0), [direction(i) for i in range(1, 5)]
    oracle = eq_12(d, protected, span)
    # float32 keeps 6e-8 of each number
    torch.testing.assert_close(
        orthogonalise(d, protected, span=span).deltas["middle"].double(), oracle, rtol=1e-6, atol=1e-6
    )


@spans
def test_what_is_left_agrees_with_least_squares_where_protected_directions_lean_on_each_other(span):
    d, protected = direction(0), [direction(1), nudged(direction(1), 1e-2), direction(2), 3 * direction(2)]
    timesteps = len(TIMESTEPS) if span == "each timestep" else 1
    parts = [p.deltas["middle"].double().reshape(timesteps, -1, 1) for p in protected[:3]]  # the fourth adds nothing
    matrix, h = torch.cat(parts, 2), d.deltas["middle"].double().reshape(timesteps, -1, 1)
    oracle = h - matrix @ torch.linalg.lstsq(matrix, h, driver="gelsd").solution
    left = orthogonalise(d, protected, span=span).deltas["middle"].double()
    # 100 times float32's rounding, which the near-repeat magnifies
    torch.testing.assert_close(left, oracle.reshape(left.shape), rtol=1e-5, atol=1e-5)


@spans
def test_what_is_left_has_no_part_along_any_protected_direction(span):
    left, steps = orthogonalise(direction(0), awkward(), span=span), 1 if span == "whole trajectory" else 4
    for protected in awkward():
        a, b = left.deltas["middle"].reshape(steps, -1), protected.deltas["middle"].reshape(steps, -1)
        assert ((a * b).sum(1).abs() <= 1e-5 * a.norm(dim=1) * b.norm(dim=1)).all()


@spans
@pytest.mark.parametrize("nearness", [1e-2, 1e-4, 1e-5, 1e-6, 1e-7, 0.0])
def test_a_protected_near_repeat_of_any_nearness_is_removed_too(span, nearness):
    protected = [direction(1), nudged(direction(1), nearness)]
    left = orthogonalise(direction(0), protected, span=span).deltas["middle"].flatten()
    for p in protected:
        assert abs(left @ p.deltas["middle"].flatten()) <= 1e-5 * left.norm() * p.deltas["middle"].norm()


@spans
@pytest.mark.parametrize("nearness", [1e-2, 1e-3])
def test_a_direction_nearly_inside_the_span_keeps_only_what_is_outside(span, nearness):
    left = orthogonalise(nudged(direction(1), nearness), [direction(1)], span=span).deltas["middle"].flatten()
    assert (
        abs(left @ direction(1).deltas["middle"].flatten()) <= 1e-5 * left.norm() * direction(1).deltas["middle"].norm()
    )
    # the piece of that size is left, less its own small part along the protected one
    assert left.norm() / direction(99).deltas["middle"].norm() == pytest.approx(nearness, rel=0.05)


@spans
def test_orthogonalising_twice_changes_nothing(span):
    once = orthogonalise(direction(0), awkward(), span=span)
    torch.testing.assert_close(
        orthogonalise(once, awkward(), span=span).deltas["middle"], once.deltas["middle"], rtol=1e-6, atol=1e-6
    )


@spans
def test_the_order_of_the_protected_directions_does_not_matter(span):
    forward, backward = (orthogonalise(direction(0), some, span=span) for some in (awkward(), awkward()[::-1]))
    # near-repeats may stand for each other: one keeps 1e-6 of the other
    torch.testing.assert_close(forward.deltas["middle"], backward.deltas["middle"], rtol=1e-5, atol=1e-5)


def test_protecting_at_each_timestep_removes_more():
    whole, each = (orthogonalise(direction(0), [direction(1), direction(2)], span=span) for span in SPANS)
    assert each.deltas["middle"].norm() < whole.deltas["middle"].norm() < direction(0).deltas["middle"].norm()


def test_protecting_nothing_or_a_zero_direction_changes_nothing():
    assert torch.equal(orthogonalise(direction(0), []).deltas["middle"], direction(0).deltas["middle"])
    assert torch.equal(orthogonalise(direction(0), [0 * direction(1)]).deltas["middle"], direction(0).deltas["middle"])


@spans
@pytest.mark.parametrize(
    ("inside", "protected"),
    [
        (direction(1), [direction(1)]),
        (-3 * direction(1), [direction(2), direction(1)]),
        (direction(1) + direction(2), [direction(1), direction(2)]),
        (0.3 * direction(1) - 7 * direction(2), [direction(2), direction(3), direction(1), direction(1)]),
        (direction(1) * 1e-6, [direction(1) * 1e6]),
    ],
    ids=["itself", "its opposite", "a sum", "a mixture among more", "itself in another size"],
)
def test_a_direction_made_of_protected_ones_is_refused_with_the_names(span, inside, protected):
    with pytest.raises(ValueError, match=r'Nothing of "mine" would be left: it is made of .*"d1"') as error:
        orthogonalise(inside.renamed("mine"), [p.renamed(p.name.split()[-1]) for p in protected], span=span)
    assert all(f'"{p.name.split()[-1]}"' in str(error.value) for p in protected)


@spans
@pytest.mark.parametrize("timesteps", [FEW, ONE], ids=["others", "a single one"])
def test_protected_directions_at_other_timesteps_are_compared_on_common_ones(span, timesteps):
    d, protected = direction(0), direction(1, timesteps)
    left = orthogonalise(d, [protected], span=span)
    assert set(TIMESTEPS.tolist()) <= set(left.timesteps.tolist())
    assert len(left.timesteps) == (7 if len(timesteps) > 1 else 4)
    oracle = eq_12(d, [protected], span)
    torch.testing.assert_close(left.deltas["middle"].double(), oracle, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="Nothing of"):
        orthogonalise(left, [left, protected], span=span)


def test_a_constant_direction_gets_the_timesteps_of_what_it_is_protected_from():
    left = orthogonalise(direction(0, ONE), [direction(1)])
    assert torch.equal(left.timesteps, TIMESTEPS)
    assert len(orthogonalise(direction(0, ONE), [direction(1, ONE)]).timesteps) == 1


def test_a_protected_direction_says_so_in_its_recipe_and_keeps_its_unit():
    d, p = direction(0, recipe='{"find": "a"}'), direction(1, recipe='{"find": "b"}')
    left = orthogonalise(d, [p], span="each timestep")
    assert (left.name, left.unit, left.method, left.source) == (d.name, d.unit, d.method, d.source)
    assert json.loads(left.recipe) == {
        "orthogonalise": {"find": "a"},
        "span": "each timestep",
        "protected": [{"name": "d1", "recipe": {"find": "b"}}],
    }


def test_a_combination_is_the_sum_of_its_parts_times_their_strengths():
    parts = [direction(1), direction(2, FEW), direction(3, ONE)]
    combined = combine(parts, [1.0, -0.5, 2.0])
    asked = torch.linspace(999, 0, 40)
    expected = sum(s * p.at("middle", asked) for s, p in zip([1.0, -0.5, 2.0], parts, strict=True))
    torch.testing.assert_close(combined.at("middle", asked), expected, rtol=1e-5, atol=1e-5)  # float32 interpolation


def test_the_order_of_a_combination_does_not_matter():
    parts, strengths = [direction(1), direction(2, FEW), direction(3)], [1.0, -0.5, 2.0]
    forward, backward = combine(parts, strengths), combine(parts[::-1], strengths[::-1])
    assert torch.equal(forward.timesteps, backward.timesteps)
    torch.testing.assert_close(
        forward.deltas["middle"], backward.deltas["middle"], rtol=1e-5, atol=1e-5
    )  # float32 sums in another order


def test_one_direction_at_strength_one_is_itself():
    assert combine([direction(1)], [1.0]) == direction(1)
    assert combine([direction(1)], [1.0], "mine") == direction(1).renamed("mine")


@pytest.mark.parametrize("strengths", [[], [1.0], [1.0, 2.0, 3.0]])
def test_each_direction_needs_a_strength(strengths):
    with pytest.raises(ValueError, match=f"got {len(strengths)} strengths for 2 directions"):
        combine([direction(1), direction(2)], strengths)


def test_a_combination_of_nothing_is_refused():
    with pytest.raises(ValueError, match="got 0 strengths for 0 directions"):
        combine([], [])


def test_cosines_are_symmetric_with_ones_on_the_diagonal():
    table = cosines([direction(1), direction(2, FEW), direction(3, ONE), -1e4 * direction(1)])
    torch.testing.assert_close(table, table.T, rtol=0, atol=0)
    torch.testing.assert_close(table.diagonal(), torch.ones(4).double(), rtol=0, atol=1e-12)  # float64
    assert table[0, 3].item() == pytest.approx(-1, abs=1e-6)  # float32 scaling
    assert table.abs().max() <= 1


def test_a_cosine_is_over_the_whole_trajectory():
    a, b = torch.zeros(4, *SHAPE), torch.zeros(4, *SHAPE)
    a[:, 0, 0, 0] = torch.tensor([1.0, 1.0, 1.0, 1.0])
    b[:, 0, 0, 0] = torch.tensor([1.0, 1.0, 1.0, -1.0])
    table = cosines([replace(direction(), deltas={"middle": a}), replace(direction(), deltas={"middle": b})])
    assert table[0, 1].item() == pytest.approx(0.5)


def test_a_zero_direction_has_no_cosine():
    with pytest.raises(ValueError, match='"nothing" is zero'):
        cosines([direction(1), (0 * direction(2)).renamed("nothing")])


@pytest.mark.parametrize("act", [lambda ds: orthogonalise(ds[0], ds[1:]), lambda ds: combine(ds, [1, 1]), cosines])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        (direction(1, source=Source("SDXL", "0", "positive", (64, 64))), "got model family SDXL, wanted DDPM"),
        (direction(1, shape=(6, 8, 8)), r"got \(6, 8, 8\), wanted \(6, 5, 5\)"),
    ],
    ids=["family", "size"],
)
def test_directions_of_different_spaces_do_not_mix(act, other, message):
    with pytest.raises(ValueError, match=message):
        act([direction(0), other])
