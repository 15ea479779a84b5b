import json

import pytest
import torch
from planted import PUSH, SHAPE, SOURCE, TIMESTEPS, attributes, bank, scores
from sklearn.linear_model import Ridge
from torch.nn.functional import cosine_similarity

from directions import Source, find_from_examples, find_from_scores
from directions.banks import bank as bank_module
from directions.finders.labels import extremes
from directions.measures.reliability import SPLITS, Examples

METHODS = ("examples", "regression")
methods = pytest.mark.parametrize("method", METHODS)
SMILE, AGE = 0, 1


def scored(folder, n=400, *, correlation=0.0, **words):
    h, values, axes = attributes(n, correlation=correlation)
    recorded = bank(folder, h, shard=100, **words)
    return recorded, scores(recorded, values), axes


def gap(values, examples=50):
    """From the mean of the lowest scores to the mean of the highest."""
    ranked = values.sort().values
    return (ranked[-examples:].mean() - ranked[:examples].mean()).item()


def along(direction, axes, attribute):
    """Cosine `(t,)` with the planted axis."""
    return cosine_similarity(direction.deltas["middle"].flatten(1), axes[:, attribute])


def groups(n, distance, seed=0):
    """Pure noise h of deviation 1, of which the first half lies `distance` away along an axis."""
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(2 * n, len(TIMESTEPS), torch.Size(SHAPE).numel(), generator=generator)
    h[:n, :, 0] += distance
    return h.half().unflatten(2, SHAPE)


def halves(recorded):
    middle = len(recorded) // 2
    return recorded.select(recorded.seeds[:middle]), recorded.select(recorded.seeds[middle:])


@methods
def test_scores_lead_to_the_planted_direction_at_every_timestep(tmp_path, method):
    recorded, given, axes = scored(tmp_path)
    found = find_from_scores(recorded, given, "smile", method=method).direction
    # the means of 50 on each side know h to sqrt(2/50) of its deviation: 0.5 in each of 150 dimensions, and 3 along the
    # two other attributes, together 1.5 beside the way of 10 along smile; cosine 0.99
    assert (along(found, axes, SMILE) > 0.95).all()
    # so the norm is the way itself but for 2 %
    expected = torch.full((4,), PUSH * gap(given.column("smile")))
    torch.testing.assert_close(found.deltas["middle"].flatten(1).norm(dim=1), expected, rtol=0.04, atol=0)
    assert torch.equal(found.timesteps, TIMESTEPS)
    assert (found.name, found.source) == ("smile", SOURCE)
    assert "50 lowest scores to that of the 50 highest" in found.unit


@methods
def test_opposite_scores_lead_to_the_opposite_direction(tmp_path, method):
    recorded, given, _ = scored(tmp_path, 100)
    there = find_from_scores(recorded, given, "smile", method=method, examples=20).direction
    back = find_from_scores(recorded, scores(recorded, -given.values), "smile", method=method, examples=20).direction
    torch.testing.assert_close(
        there.deltas["middle"], -back.deltas["middle"], rtol=1e-4, atol=1e-4
    )  # sums in another order


@methods
def test_scores_in_another_scale_lead_to_the_same_direction(tmp_path, method):
    recorded, given, _ = scored(tmp_path, 100)
    found, rescaled = (
        find_from_scores(recorded, some, "smile", method=method, examples=20, name="mine").direction
        for some in (given, scores(recorded, given.values * 1000 + 7))
    )
    torch.testing.assert_close(
        found.deltas["middle"], rescaled.deltas["middle"], rtol=1e-3, atol=1e-4
    )  # the scores are float32
    assert found.name == "mine"


def test_examples_lead_to_the_planted_direction_at_every_timestep(tmp_path):
    recorded, given, axes = scored(tmp_path)
    smile = given.column("smile")
    ranked = smile.argsort()
    positive, negative = recorded.select(ranked[-100:].tolist()), recorded.select(ranked[:100].tolist())
    found = find_from_examples(positive, negative, name="smile")
    assert (along(found.direction, axes, SMILE) > 0.95).all()  # as from scores, with twice the pictures
    expected = torch.full((4,), PUSH * gap(smile, 100))
    torch.testing.assert_close(found.direction.deltas["middle"].flatten(1).norm(dim=1), expected, rtol=0.04, atol=0)
    assert found.examples == (100, 100)
    assert found.summary().startswith('"smile" from 100 with and 100 without: held-out d\' ')


def test_a_direction_from_examples_is_the_difference_of_their_means(tmp_path):
    h, _, _ = attributes(30)
    recorded = bank(tmp_path, h)
    positive, negative = recorded.select([3, 1, 20, 7, 9]), recorded.select([0, 25, 2])
    found = find_from_examples(positive, negative, name="d").direction
    expected = h[[3, 1, 20, 7, 9]].double().mean(0) - h[[0, 25, 2]].double().mean(0)
    torch.testing.assert_close(found.deltas["middle"].double(), expected, rtol=1e-5, atol=1e-5)  # float32 sums
    recipe = json.loads(found.recipe)
    assert recipe["positive"]["seeds"] == [3, 1, 20, 7, 9]
    assert recipe["negative"] == {"seeds": [0, 25, 2], "bank": {}}


@pytest.mark.parametrize("others", [(), ("age",), ("age", "glasses"), ("smile", "age")])
@pytest.mark.parametrize("ridge", [0.0, 0.01, 1.0])
def test_regression_agrees_with_scikit_learn(tmp_path, others, ridge):
    recorded, given, _ = scored(tmp_path, 60, correlation=0.7)
    found = find_from_scores(recorded, given, "smile", others=others, ridge=ridge, examples=10).direction
    columns = ["smile", *(other for other in others if other != "smile")]
    x = torch.stack([given.column(column) for column in columns], 1).double()
    deviations = x.std(0, correction=0)
    x = (x - x.mean(0)) / deviations
    for step, delta in enumerate(found.deltas["middle"]):
        oracle = Ridge(alpha=ridge * 60).fit(x.numpy(), recorded.h("middle", step).flatten(1).double().numpy())
        expected = torch.from_numpy(oracle.coef_[:, 0]) * gap(given.column("smile"), 10) / deviations[0]
        torch.testing.assert_close(delta.flatten().double(), expected, rtol=1e-4, atol=1e-4)  # float32 sums


@methods
def test_naming_a_correlated_attribute_keeps_it_out_of_the_direction(tmp_path, method):
    recorded, given, axes = scored(tmp_path, 800, correlation=0.7)
    alone = find_from_scores(recorded, given, "smile", method=method, examples=80).direction
    clean = find_from_scores(recorded, given, "smile", method=method, examples=80, others=["age"]).direction
    # alone it takes 0.7 of age for each smile: cosine 0.7 / sqrt(1 + 0.7^2) = 0.57
    assert (along(alone, axes, AGE) - 0.57).abs().max() < 0.1
    # regression holds age still; balancing halves only evens out which side of its mean age is on
    limit = {"regression": 0.1, "examples": 0.4}[method]
    assert along(clean, axes, AGE).abs().max() < limit
    assert (along(clean, axes, SMILE) > along(alone, axes, SMILE) + 0.05).all()


def test_balanced_examples_lie_evenly_above_and_below_the_other_columns():
    smile, *rest = attributes(800, correlation=0.7)[1].T
    sides = extremes("smile", smile, 80, rest)
    for rows in (sides.positive, sides.negative):
        assert len(rows.unique()) == 80
        for other in rest:
            assert int((other[rows] > other.mean()).sum()) == 40
    assert not set(sides.positive.tolist()) & set(sides.negative.tolist())


@methods
def test_unscored_pictures_change_nothing(tmp_path, method):
    h, values, _ = attributes(60)
    recorded, part = bank(tmp_path / "all", h), bank(tmp_path / "part", h[:40])
    words = {"method": method, "examples": 10}
    some, same = (find_from_scores(b, scores(part, values[:40]), "smile", **words) for b in (recorded, part))
    assert torch.equal(some.direction.deltas["middle"], same.direction.deltas["middle"])


@methods
def test_a_direction_does_not_depend_on_shards_or_slices(tmp_path, monkeypatch, method):
    h, values, _ = attributes(40)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1)).tolist()
    whole = bank(tmp_path / "whole", h, shard=40)
    a = find_from_scores(whole, scores(whole, values), "smile", method=method, examples=10, others=["age"])
    monkeypatch.setattr(bank_module, "SLICE_ELEMENTS", 40 * 25)  # one channel at a time
    sliced = bank(tmp_path / "sliced", h, shard=3, order=order)
    b = find_from_scores(sliced, scores(sliced, values), "smile", method=method, examples=10, others=["age"])
    # float32 sums in another order
    torch.testing.assert_close(a.direction.deltas["middle"], b.direction.deltas["middle"], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(a.reliability.d_prime, b.reliability.d_prime, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(a.reliability.cosine, b.reliability.cosine, rtol=1e-3, atol=1e-3)
    assert a.direction.recipe == b.direction.recipe


def test_a_direction_from_examples_does_not_depend_on_shards_or_slices(tmp_path, monkeypatch):
    h = groups(20, 3.0)
    a = find_from_examples(*halves(bank(tmp_path / "whole", h, shard=40)), name="d")
    monkeypatch.setattr(bank_module, "SLICE_ELEMENTS", 1)  # still one channel at a time
    b = find_from_examples(*halves(bank(tmp_path / "sliced", h, shard=3)), name="d")
    torch.testing.assert_close(
        a.direction.deltas["middle"], b.direction.deltas["middle"], rtol=1e-3, atol=1e-4
    )  # sums in another order
    torch.testing.assert_close(a.reliability.d_prime, b.reliability.d_prime, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("finder", [*METHODS, "banks"])
def test_no_more_than_a_slice_of_the_bank_is_read_at_a_time(tmp_path, monkeypatch, finder):
    h, values, _ = attributes(40)
    recorded = bank(tmp_path, h)
    monkeypatch.setattr(bank_module, "SLICE_ELEMENTS", 40 * 25 * 2)  # two channels of all trajectories
    read, sizes = type(recorded).h, []

    def measured(self, *args):
        got = read(self, *args)
        sizes.append(got.numel())
        return got

    monkeypatch.setattr(type(recorded), "h", measured)
    if finder == "banks":
        find_from_examples(recorded.select(range(35)), recorded.select(range(35, 40)), name="d")
    else:
        find_from_scores(recorded, scores(recorded, values), "smile", method=finder, examples=10)
    assert max(sizes) <= bank_module.SLICE_ELEMENTS
    assert sum(sizes) == h.numel()  # and all of it once


def test_progress_is_told_for_each_timestep(tmp_path):
    told = []
    positive, negative = halves(bank(tmp_path, groups(5, 1.0)))
    find_from_examples(positive, negative, name="d", on_progress=lambda *now: told.append(now))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_trust_in_a_planted_attribute_is_its_true_distance(tmp_path):
    positive, negative = halves(bank(tmp_path, groups(200, 4.0), shard=200))
    trust = find_from_examples(positive, negative, name="d").reliability
    # halves of 100 know the axis with an error of sqrt(150 * 2 / 100) = 1.7 beside its 4: cosine 0.92 with the truth,
    # so held-out pictures lie 4 * 0.92 = 3.7 apart, known to sqrt(2 / 200 + 3.7^2 / 800) = 0.16; and two halves agree
    # to 0.92^2 = 0.84
    assert (trust.d_prime - 3.67).abs().max() < 0.5
    assert (trust.cosine - 0.84).abs().max() < 0.05
    assert torch.equal(trust.timesteps, TIMESTEPS)
    # all four timesteps at once are four times the dimensions and twice the distance: 8 * 0.92
    assert trust.d_prime_overall == pytest.approx(7.34, abs=1.0)
    assert trust.cosine_overall == pytest.approx(0.84, abs=0.05)


def test_halves_of_a_strong_attribute_agree(tmp_path):
    trust = find_from_examples(*halves(bank(tmp_path, groups(40, 30.0), shard=100)), name="d").reliability
    assert trust.cosine.min() > 0.98  # an error of sqrt(150 * 2 / 20) = 3.9 beside 30: 1 - (3.9 / 30)^2 = 0.983
    assert trust.cosine_overall > 0.98


@pytest.mark.parametrize("seed", range(3))
def test_random_labels_earn_no_trust_though_they_separate_their_own_pictures(tmp_path, seed):
    h = groups(200, 0.0, seed)
    found = find_from_examples(*halves(bank(tmp_path, h, shard=200)), name="d")
    # by chance halves of 100 agree to 1 / sqrt(600 dimensions) = 0.04, and part held-out pictures by sqrt(2/100) = 0.14
    assert abs(found.reliability.cosine_overall) < 0.15
    assert abs(found.reliability.d_prime_overall) < 0.5
    at = h.float().flatten(1) @ found.direction.deltas["middle"].flatten()
    in_sample = (at[:200].mean() - at[200:].mean()) / ((at[:200].var() + at[200:].var()) / 2).sqrt()
    assert in_sample > 2  # sqrt(600 * 2 / 200) = 2.4


@methods
def test_random_scores_earn_no_trust(tmp_path, method):
    recorded = bank(tmp_path, groups(200, 0.0), shard=200)
    values = torch.randn(400, 1, generator=torch.Generator().manual_seed(5))
    trust = find_from_scores(
        recorded, scores(recorded, values, ("luck",)), "luck", method=method, examples=100
    ).reliability
    assert abs(trust.cosine_overall) < 0.15  # as for random labels
    assert abs(trust.d_prime_overall) < 0.7  # halves of 50: sqrt(2/50) = 0.2


@methods
def test_planted_scores_earn_trust(tmp_path, method):
    recorded, given, _ = scored(tmp_path)
    trust = find_from_scores(recorded, given, "smile", method=method).reliability
    assert trust.d_prime.min() > 2
    assert trust.cosine.min() > 0.9  # halves of 25 err by 2.1 beside 10: 1 - 0.21^2 = 0.95


@pytest.mark.parametrize(("with_it", "without"), [(3, 20), (20, 3), (1, 1), (1, 20), (2, 2)])
def test_fewer_than_four_examples_on_a_side_say_nothing_of_trust(tmp_path, with_it, without):
    recorded = bank(tmp_path, groups(20, 3.0))
    positive, negative = recorded.select(range(with_it)), recorded.select(range(20, 20 + without))
    found = find_from_examples(positive, negative, name="d")
    assert found.reliability is None
    assert "too few examples" in found.summary()
    expected = positive.h("middle", 0).mean(0) - negative.h("middle", 0).mean(0)
    torch.testing.assert_close(found.direction.deltas["middle"][0], expected, rtol=1e-5, atol=1e-5)


@methods
@pytest.mark.parametrize("examples", [1, 3])
def test_fewer_than_four_scored_examples_say_nothing_of_trust(tmp_path, method, examples):
    recorded, given, _ = scored(tmp_path, 20)
    assert find_from_scores(recorded, given, "smile", method=method, examples=examples).reliability is None


@methods
def test_two_pictures_are_enough_for_a_direction(tmp_path, method):
    recorded, given, _ = scored(tmp_path, 2)
    found = find_from_scores(recorded, given, "smile", method=method, examples=1, ridge=0.0).direction
    high, low = given.column("smile").argsort(descending=True).tolist()
    h = recorded.h("middle", 2)
    torch.testing.assert_close(found.deltas["middle"][2], h[high] - h[low], rtol=1e-4, atol=1e-4)  # float32 sums


@pytest.mark.parametrize("n", [4, 5])
def test_four_examples_on_each_side_have_a_finite_trust(tmp_path, n):
    recorded = bank(tmp_path, groups(n, 3.0))
    for paired in (True, False):
        trust = find_from_examples(*halves(recorded), name="d", paired=paired).reliability
        assert torch.isfinite(trust.d_prime).all()
        assert torch.isfinite(trust.cosine).all()


def test_identical_pictures_have_a_finite_trust_and_a_zero_direction(tmp_path):
    h = groups(5, 0.0)[:1].expand(10, -1, -1, -1, -1)
    found = find_from_examples(*halves(bank(tmp_path, h)), name="d")
    assert found.direction.deltas["middle"].abs().max() < 1e-5  # float32 rounding of the mean
    assert torch.isfinite(found.reliability.cosine).all()


def test_paired_halves_keep_pairs_together():
    positive, negative = torch.arange(9), torch.arange(9, 18)
    generator = torch.Generator().manual_seed(0)
    masks = torch.stack([Examples(positive, negative, True).half(18, generator) for _ in range(20)])
    assert torch.equal(masks[:, positive], masks[:, negative])
    assert (masks.sum(1) == 8).all()
    assert len(masks.unique(dim=0)) > 10  # and they are random
    unpaired = torch.stack([Examples(positive, negative).half(18, generator) for _ in range(20)])
    assert not torch.equal(unpaired[:, positive], unpaired[:, negative])


def test_halves_take_half_of_each_side_and_of_the_rest():
    examples = Examples(torch.arange(0, 10), torch.arange(10, 16))
    mask = examples.half(30, torch.Generator().manual_seed(0))
    assert [int(part.sum()) for part in mask.split([10, 6, 14])] == [5, 3, 7]


def test_pairing_changes_the_trust_and_not_the_direction(tmp_path):
    generator = torch.Generator().manual_seed(3)
    own = 3 * torch.randn(30, 4, *SHAPE, generator=generator)  # what a pair shares and the direction should ignore
    h = torch.cat([own, own]) + groups(30, 1.5).float()
    sides = halves(bank(tmp_path, h.half(), shard=60))
    paired, unpaired = (find_from_examples(*sides, name="d", paired=p) for p in (True, False))
    assert torch.equal(paired.direction.deltas["middle"], unpaired.direction.deltas["middle"])
    assert paired.reliability.cosine_overall > unpaired.reliability.cosine_overall


@pytest.mark.parametrize("paired", [False, True])
def test_trust_from_the_gram_matrix_agrees_with_explicit_vectors(tmp_path, paired):
    h = groups(12, 2.0)
    found = find_from_examples(*halves(bank(tmp_path, h)), name="d", paired=paired)
    n, rows = 12, h[:, 1].double().flatten(1)
    generator = torch.Generator().manual_seed(0)
    examples = Examples(torch.arange(n), torch.arange(n, 2 * n), paired)
    distances, agreements = [], []
    for _ in range(SPLITS):
        mask = examples.half(2 * n, generator)
        parts = [(rows[:n][m[:n]], rows[n:][m[n:]]) for m in (mask, ~mask)]
        one, other = (p.mean(0) - q.mean(0) for p, q in parts)
        agreements.append(cosine_similarity(one, other, dim=0))
        for vector, (p, q) in ((one, parts[1]), (other, parts[0])):
            p, q = p @ vector, q @ vector
            distances.append((p.mean() - q.mean()) / ((p.var() + q.var()) / 2).sqrt())
    # float32 products of 150 numbers
    assert found.reliability.d_prime[1].item() == pytest.approx(torch.stack(distances).mean().item(), rel=1e-4)
    assert found.reliability.cosine[1].item() == pytest.approx(
        torch.stack(agreements).mean().item(), rel=1e-4, abs=1e-5
    )


def test_trust_in_a_regression_agrees_with_explicit_regressions_of_its_halves(tmp_path):
    recorded, given, _ = scored(tmp_path, 60, correlation=0.5)
    found = find_from_scores(recorded, given, "smile", others=["age"], examples=12, ridge=0.1)
    smile, rows = given.column("smile"), recorded.h("middle", 2).double().flatten(1)
    ranked = smile.argsort(stable=True)
    high, low = ranked[-12:], ranked[:12]
    generator = torch.Generator().manual_seed(0)
    distances, agreements = [], []
    for _ in range(SPLITS):
        mask = Examples(high, low).half(60, generator)
        vectors = []
        for shown in (mask, ~mask):
            x = given.values[shown, :2].double()
            x = (x - x.mean(0)) / x.std(0, correction=0)
            fit = Ridge(alpha=0.1 * len(x)).fit(x.numpy(), rows[shown].numpy())
            vectors.append(torch.from_numpy(fit.coef_[:, 0]))
        agreements.append(cosine_similarity(*vectors, dim=0))
        for vector, unseen in zip(vectors, (~mask, mask), strict=True):
            p, q = (rows[side[unseen[side]]] @ vector for side in (high, low))
            distances.append((p.mean() - q.mean()) / ((p.var() + q.var()) / 2).sqrt())
    # float32 products of 150 numbers
    assert found.reliability.d_prime[2].item() == pytest.approx(torch.stack(distances).mean().item(), rel=1e-4)
    assert found.reliability.cosine[2].item() == pytest.approx(torch.stack(agreements).mean().item(), rel=1e-4)


def test_no_number_of_examples_splits_all_pictures_half_way_between_the_scores(tmp_path):
    recorded = bank(tmp_path, attributes(10)[0])
    values = torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0, 4.9, 5.0, 5.1, 9.0, 10.0]).unsqueeze(1)
    found = find_from_scores(recorded, scores(recorded, values, ("smile",)), "smile", method="examples", examples=0)
    assert found.examples == (3, 7)
    h = recorded.h("middle", 0)
    torch.testing.assert_close(found.direction.deltas["middle"][0], h[7:].mean(0) - h[:7].mean(0), rtol=1e-5, atol=1e-5)


@methods
def test_scores_that_hardly_differ_still_split_in_two(tmp_path, method):
    recorded = bank(tmp_path, attributes(10)[0])
    low = torch.tensor(1.0 + 2**-23)  # half-way to the next number rounds up to it
    values = torch.stack([low] * 5 + [torch.nextafter(low, torch.tensor(2.0))] * 5).unsqueeze(1)
    found = find_from_scores(recorded, scores(recorded, values, ("smile",)), "smile", method=method, examples=0)
    assert found.examples == (5, 5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"examples": 21}, 'Too few pictures for 21 examples of "smile" on each side: got 40 wanted 42'),
        ({"examples": -1}, "Too few pictures for -1 examples"),
        (
            {"examples": 20, "others": ["age"]},
            "of the 2 groups to balance, wanted 20. .*balance on fewer columns",
        ),
        ({"examples": 1, "others": ["age"]}, "in one of the 2 groups to balance, wanted 2"),
        ({"examples": 0, "others": ["age"]}, "say how many examples to take"),
    ],
)
def test_more_examples_than_there_are_pictures_for_are_refused(tmp_path, words, message):
    recorded, given, _ = scored(tmp_path, 40, correlation=0.7)
    with pytest.raises(ValueError, match=message):
        find_from_scores(recorded, given, "smile", method="examples", **words)


def test_all_pictures_can_be_examples(tmp_path):
    recorded, given, _ = scored(tmp_path, 40)
    assert find_from_scores(recorded, given, "smile", method="examples", examples=20).examples == (20, 20)


@methods
def test_scores_that_do_not_fit_are_refused(tmp_path, method):
    recorded, given, _ = scored(tmp_path, 40)
    constant = given.values.clone()
    constant[:, AGE] = 2.0
    for some, words, message in (
        (given, {"column": "hat"}, 'no column "hat"'),
        (given, {"column": "smile", "others": ["hat"]}, 'no column "hat"'),
        (scores(recorded, constant), {"column": "age"}, 'Column "age" is 2 for all'),
        (scores(recorded, constant), {"column": "smile", "others": ["age"]}, 'Column "age" is 2 for all'),
        (scores(recorded, given.values, bank_recipe='{"a": 1}'), {"column": "smile"}, "of another bank"),
    ):
        with pytest.raises(ValueError, match=message):
            find_from_scores(recorded, some, method=method, examples=5, **words)


@pytest.mark.parametrize("ridge", [-0.1, float("nan")])
def test_a_negative_ridge_is_refused(tmp_path, ridge):
    recorded, given, _ = scored(tmp_path, 40)
    with pytest.raises(ValueError, match="ridge must not be negative"):
        find_from_scores(recorded, given, "smile", examples=5, ridge=ridge)


def test_a_recipe_from_scores_tells_how_to_find_it_again(tmp_path):
    recorded, given, _ = scored(tmp_path, 40, recipe='{"prompt": "a face"}')
    found = find_from_scores(recorded, given, "smile", examples=5, others=["age"], ridge=0.5).direction
    assert json.loads(found.recipe) == {
        "find": "scores, regression",
        "column": "smile",
        "scores": "planted",
        "others": ["age"],
        "examples": [5, 5],
        "ridge": 0.5,
        "seeds": [0, 39],
        "bank": {"prompt": "a face"},
    }


@pytest.mark.parametrize(
    ("words", "h", "message"),
    [
        ({"source": Source("SDXL", "0", "positive", (64, 64))}, groups(5, 0.0), "got model family SDXL, wanted DDPM"),
        ({}, groups(5, 0.0)[:, :, :3], r"got sizes of h .*3, 5, 5.*, wanted .*6, 5, 5"),
        ({"timesteps": TIMESTEPS - 1}, groups(5, 0.0), r"got timesteps \[899.0, .*wanted \[900.0"),
    ],
    ids=["family", "size", "timesteps"],
)
def test_banks_that_can_not_be_compared_are_refused(tmp_path, words, h, message):
    positive, negative = bank(tmp_path / "a", groups(5, 0.0)), bank(tmp_path / "b", h, **words)
    with pytest.raises(ValueError, match=message):
        find_from_examples(positive, negative, name="d")


def test_pairs_need_as_many_pictures_on_both_sides(tmp_path):
    recorded = bank(tmp_path, groups(5, 0.0))
    with pytest.raises(ValueError, match="got 4 with and 6 without"):
        find_from_examples(recorded.select(range(4)), recorded.select(range(4, 10)), name="d", paired=True)


def test_a_picture_can_not_be_an_example_of_both(tmp_path):
    recorded = bank(tmp_path / "a", groups(5, 0.0))
    with pytest.raises(ValueError, match="picture of seed 4 is an example of both"):
        find_from_examples(recorded.select(range(5)), recorded.select(range(4, 10)), name="d")
    other = bank(tmp_path / "b", groups(5, 0.0, 1), recipe='{"prompt": "another"}')  # same seeds, other pictures
    assert find_from_examples(recorded, other, name="d", paired=True).examples == (10, 10)
