"""The supervised finders, the algebra nodes and their plots."""

from functools import reduce
from itertools import permutations

import pytest
import torch
from demo_faces import folder_of
from models import conditioning, core_sample, sd15, sigmas

pytestmark = pytest.mark.comfy

NAMES_THAT_ARE_NOT_MATHS = [r"5$ or \q$6", "a_b^c", "<b>&amp;", "100%"]


@pytest.fixture(scope="module")
def supervised(faces):
    return faces.nodes


@pytest.fixture(scope="module")
def algebra(faces):
    return faces.nodes


@pytest.fixture
def folder(faces, tmp_path):
    with folder_of("hspace_banks", tmp_path):
        yield tmp_path


def numbered(*directions):
    """As ComfyUI hands over a list that grows."""
    return {f"direction{i}": direction for i, direction in enumerate(directions)}


def sd_direction(faces, seed, timesteps=(999.0, 500.0, 0.0)):
    """Random, in the h-space of the tiny SD 1.5, of about h's own size."""
    delta = torch.randn(len(timesteps), 64, 2, 2, generator=torch.Generator().manual_seed(seed))
    return faces.directions.Direction(
        deltas={"middle": delta}, timesteps=torch.tensor(timesteps), name=f"d{seed}", method="random", unit="one",
        source=faces.directions.Source("SD15", "0", "positive", (128, 128)), recipe="{}",
    )  # fmt: skip


def sampled(model):
    return core_sample(
        model, "euler", sigmas(model, 3), conditioning(1), conditioning(2), {"samples": torch.zeros(1, 4, 16, 16)}, 7
    )


def is_picture(image):
    return image.ndim == 4 and image.shape[0] == 1 and image.shape[3] == 3 and 0 <= image.min() < image.max() <= 1


# Finders


@pytest.mark.parametrize("method", ["regression", "examples"])
def test_scores_become_a_direction_a_plot_and_a_line_of_text(faces, bank, supervised, method):
    scores = faces.scores(bank)
    result = supervised.HSpaceFindFromScores.execute(bank, scores, " smile ", method, 4, "age", 0.01, " grin ")
    with pytest.raises(ValueError):  # two columns balanced leave four groups of three, too few for two each
        supervised.HSpaceFindFromScores.execute(bank, scores, "smile", "examples", 8, "age", 0.01, "")
    direction, plot, info = result.result
    expected = faces.directions.find_from_scores(
        bank, scores, "smile", name="grin", method=method, examples=4, others=["age"], ridge=0.01
    )
    assert direction == expected.direction
    assert direction.name == "grin"
    assert is_picture(plot)
    assert info == expected.summary()
    assert len(result.ui.as_dict()["images"]) == 1


def test_examples_become_the_mean_of_one_bank_minus_that_of_the_other(bank, supervised):
    positive, negative = bank.select(bank.seeds[:5]), bank.select(bank.seeds[5:])
    direction, plot, info = supervised.HSpaceFindFromExamples.execute(positive, negative, False, " smile ").result
    for step in range(3):
        expected = positive.h("middle", step).mean(0) - negative.h("middle", step).mean(0)
        torch.testing.assert_close(direction.deltas["middle"][step], expected, atol=1e-5, rtol=1e-5)  # float32 sums
    assert is_picture(plot)
    assert info.startswith('"smile" from 5 with and 7 without: ')


def test_too_few_examples_still_make_a_direction_and_say_so(bank, supervised):
    direction, plot, info = supervised.HSpaceFindFromExamples.execute(
        bank.select([100]), bank.select([101]), False, "x"
    ).result
    torch.testing.assert_close(direction.deltas["middle"][0], bank.h("middle", 0)[0] - bank.h("middle", 0)[1])
    assert is_picture(plot)
    assert "too few examples" in info


@pytest.mark.parametrize("name", NAMES_THAT_ARE_NOT_MATHS)
def test_any_name_can_be_plotted(faces, bank, supervised, algebra, name):
    halves = bank.select(bank.seeds[:6]), bank.select(bank.seeds[6:])
    assert is_picture(supervised.HSpaceFindFromExamples.execute(*halves, False, name).result[1])
    a, b = faces.direction(name, 0), faces.direction("b", 1)
    assert is_picture(algebra.HSpaceShowDirection.execute(a, others=numbered(b)).result[0])


SMILING, FROWNING = "portrait of a smiling person", "portrait of a frowning person"


def find_from_prompts(supervised, words, count=5):
    import comfy.samplers

    prompts = map(words.encode, (SMILING, FROWNING, ""))
    return supervised.HSpaceFindFromPrompts.execute(
        words.model, *prompts, comfy.samplers.sampler_object("euler_ancestral"), sigmas(words.model, 3), words.latent,
        " tone ", count, 10, 2, 2.0, "positive",
    ).result  # fmt: skip


def test_two_prompts_become_the_mean_difference_of_their_banks(faces, words, supervised, folder):
    import comfy.samplers

    direction, plot, info = find_from_prompts(supervised, words)
    with_it, without = (
        faces.node("HSpaceSampleBank").execute(
            words.model, words.encode(text), words.encode(""), comfy.samplers.sampler_object("euler_ancestral"),
            sigmas(words.model, 3), words.latent, f"apart {text}", 5, 10, 2, 2.0, "positive",
        ).result[0]
        for text in (SMILING, FROWNING)
    )  # fmt: skip
    assert torch.equal(direction.timesteps, with_it.timesteps)
    expected = torch.stack([with_it.h("middle", step).mean(0) - without.h("middle", step).mean(0) for step in range(3)])
    assert expected.abs().max() > 1e-3
    factor = direction.deltas["middle"].norm() / expected.norm()  # so that strength 1 goes the whole way
    torch.testing.assert_close(direction.deltas["middle"], factor * expected, atol=1e-5, rtol=1e-4)  # float32 sums
    assert direction.name == "tone"
    assert is_picture(plot)
    assert "5 with and 5 without" in info
    assert len(list(folder.iterdir())) == 3


# Algebra


def test_a_combination_edits_as_its_parts_do_in_a_chain_of_any_order(faces, algebra):
    model, inject = sd15(), faces.node("HSpaceInject")
    # found with other schedules
    parts = [sd_direction(faces, 0), sd_direction(faces, 1, (900.0, 300.0))]
    strengths = [0.7, -0.4]

    def chained(order):
        return sampled(reduce(
            lambda m, i: inject.execute(m, parts[i], strengths[i], 0.0, 1.0, "both", "resize").result[0], order, model
        ))  # fmt: skip

    (combined,) = algebra.HSpaceCombine.execute(numbered(*parts), "0.7, -0.4", " mix ").result
    assert combined.name == "mix"
    whole = sampled(inject.execute(model, combined, 1.0, 0.0, 1.0, "both", "resize").result[0])
    assert (whole - sampled(model)).abs().max() > 0.1
    for order in permutations(range(2)):
        # float32 sums in another order, of latents of about 1
        torch.testing.assert_close(chained(order), whole, atol=1e-4, rtol=1e-4)


def test_four_edits_can_be_stacked_in_any_order(faces):
    model, host = sd15(), faces.module("nodes.host")
    edits = [(sd_direction(faces, seed), strength) for seed, strength in enumerate((0.5, -0.3, 0.8, 0.2))]
    orders = [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1), (1, 3, 0, 2)]
    first, *rest = [
        sampled(reduce(lambda m, i: host.inject(m, edits[i][0], [edits[i][1]]), order, model)) for order in orders
    ]
    three = sampled(reduce(lambda m, i: host.inject(m, edits[i][0], [edits[i][1]]), (0, 1, 2), model))
    assert (three - first).abs().max() > 0.01  # each counts
    for other in rest:
        # float32 sums in another order, of latents of about 1
        torch.testing.assert_close(other, first, atol=1e-4, rtol=1e-4)


def test_one_strength_goes_for_all_directions_and_another_number_is_refused(faces, algebra):
    two, combine = numbered(faces.direction("a", 0), faces.direction("b", 1)), algebra.HSpaceCombine.execute
    assert combine(two, "0.5", "").result[0] == combine(two, "0.5, 0.5", "").result[0]
    with pytest.raises(ValueError, match="got 3, wanted 1 or 2"):
        combine(two, "1, 1, 1", "")


@pytest.mark.parametrize("span", ["whole trajectory", "each timestep"])
def test_orthogonalise_says_how_much_is_left_and_what_it_leaned_on(faces, algebra, span):
    glasses, age, smile = (faces.direction(name, seed) for seed, name in enumerate(("glasses", "age", "smile")))
    leaning = (glasses + age).renamed("glasses")
    cleaned, info = algebra.HSpaceOrthogonalise.execute(leaning, numbered(age, smile), span, "").result
    table = faces.directions.cosines([leaning, cleaned, age, smile])
    # independent random directions: a half of the square is glasses', and so is 0.71 of the length
    assert abs(float(info.split("%")[0]) / 100 - 0.5**0.5) < 0.02
    assert info.startswith(f'{table[0, 1]:.0%} of "glasses" is left.')
    assert f"age {table[0, 2]:+.2f}, smile {table[0, 3]:+.2f}" in info
    assert table[1, 2:].abs().max() < 1e-6  # float32 rounding
    assert cleaned.name == "glasses, independent"
    named = algebra.HSpaceOrthogonalise.execute(leaning, numbered(age, smile), span, " frames ").result[0]
    assert named == cleaned.renamed("frames")


def test_orthogonalise_against_itself_is_refused(faces, algebra):
    direction = faces.direction("a", 0)
    with pytest.raises(ValueError, match='Nothing of "a" would be left'):
        protected = numbered(direction, faces.direction("b", 1))
        algebra.HSpaceOrthogonalise.execute(direction, protected, "each timestep", "")


def test_places_that_nothing_is_connected_to_are_left_out(faces, algebra):
    a, b = faces.direction("a", 0), faces.direction("b", 1)
    assert faces.module("nodes.ui").connected({"direction0": a, "direction1": None, "direction2": b}) == [a, b]
    assert faces.module("nodes.ui").connected(None) == []


def test_a_heat_map_is_orange_below_white_at_and_blue_above_zero(faces):
    plots = faces.module("nodes.ui.plots")

    def cell(value):
        table = torch.tensor([[value]], dtype=torch.float64)
        image = plots.heat_maps({"": table}, title="", rows=["r"], columns=["c"], bound=1.0)
        colours, counts = image[0].mul(255).round().reshape(-1, 3).unique(dim=0, return_counts=True)
        coloured = (colours.max(1).values - colours.min(1).values) > 60
        return colours[coloured][counts[coloured].argmax()].tolist() if coloured.any() else None

    assert cell(1.0) == [0x00, 0x72, 0xB2]
    assert cell(-1.0) == [0xD5, 0x5E, 0x00]
    assert cell(0.0) is None


@pytest.mark.parametrize(
    ("rows", "paired", "warned"), [(slice(0, 6), False, True), (slice(0, 6), True, False), (slice(6, 12), False, False)]
)
def test_unpaired_banks_of_the_same_seeds_are_remarked_on(faces, bank, supervised, tmp_path, rows, paired, warned):
    """Their noise is alike, which the measure of trust takes for a property of the pictures."""
    import comfy.samplers

    faces_like_them = faces.node("HSpaceSampleBank").execute
    with folder_of("hspace_banks", tmp_path):
        other, *_ = faces_like_them(
            faces.model, faces.empty, faces.empty, comfy.samplers.sampler_object("euler_ancestral"), faces.sigmas(3),
            faces.latent, "others", 6, 100, 6, 1.0, "positive",
        ).result  # fmt: skip
        info = supervised.HSpaceFindFromExamples.execute(bank.select(bank.seeds[rows]), other, paired, "x").result[2]
    assert ("same seeds" in info) == warned
