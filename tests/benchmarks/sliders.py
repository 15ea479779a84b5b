"""What the pack finds at the levels of the prompted faces, beside the word: the second table of docs/prompted.md.

    python -m pytest -s tests/benchmarks/sliders.py          (an hour on two cores; -k "smile and scores" one cell)

As in peers.py, on more seeds and steps than directions are found at.
"""

import pytest
from dials import WORDS, Bench, Dial, settle, the_word
from peers import as_large
from prompted_page import SLIDERS

SEEDS, STEPS = 64, 20
FOUND_IN = 100
MARKED = 15
"""Pictures marked as having it, and as many as lacking it: the highest and lowest that the classifier scores."""
NAMELESS = "eyes", "background"
"""What no word of the model names."""

pytestmark = pytest.mark.comfy


def pairs(bench: Bench, attribute: str) -> Dial:
    return bench.injected(attribute, bench.slider(attribute)[0], (0.25, 0.5, 1, 2))


def random(bench: Bench, attribute: str) -> Dial:
    return bench.injected(attribute, as_large(bench.slider(attribute)[0]), (1,))


def scores(bench: Bench, attribute: str, sites=None) -> Dial:
    found = bench.faces.direction_from_scores(*bench.scored[:2], attribute)
    return bench.injected(attribute, found.only(sites) if sites else found, (0.5, 1, 2, 3))


def marked(bench: Bench, attribute: str) -> Dial:
    bank, judged, _ = bench.scored
    found = bench.faces.directions.find_from_scores(bank, judged, attribute, method="examples", examples=MARKED)
    return bench.injected(attribute, found.direction, (0.5, 1, 2, 3))


METHODS = {
    "word in the prompt": the_word,
    "pairs of words": pairs,
    "scores, others held": scores,
    "scores, others held, output.3 alone": lambda *given: scores(*given, ["output.3"]),
    "30 marked pictures": marked,
    "random, as large as the pairs": random,
}


@pytest.fixture(scope="module")
def bench(pack, tmp_path_factory):
    return Bench(pack, tmp_path_factory.mktemp("banks"), seeds=SEEDS, steps=STEPS, found_in=FOUND_IN)


@pytest.mark.parametrize("attribute", WORDS)
@pytest.mark.parametrize("name", METHODS)
def test_what_moves_an_attribute(bench, attribute, name):
    settle(bench, SLIDERS, attribute, name, METHODS[name](bench, attribute))


@pytest.mark.parametrize("attribute", NAMELESS)
def test_what_no_word_names(bench, attribute):
    settle(bench, SLIDERS, attribute, "scores, others held", scores(bench, attribute))
