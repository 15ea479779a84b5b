"""What the prompted demo faces are told of themselves while they are trained."""

import importlib.util
import sys

import numpy as np
import pytest

from tools.comfyui import ROOT


@pytest.fixture(scope="module")
def captions():
    spec = importlib.util.spec_from_file_location("captions", ROOT / "demo" / "prompted" / "captions.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["captions"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["captions"]


def faces(count: int) -> list[dict[str, float]]:
    from demo.faces import ATTRIBUTES, render_batch

    _, attributes = render_batch(count, seed=1)
    return [dict(zip(ATTRIBUTES, row, strict=True)) for row in attributes.tolist()]


def meant(captions, text: str) -> set[str]:
    """The words that a caption means: the longest phrases first, each taken away when it is found."""
    text, found = text.lower(), set()
    ways = [(way, name) for name, word in captions.WORDS.items() for way in (*word.adjectives, *word.phrases)]
    for way, name in sorted(ways, key=lambda pair: -len(pair[0])):
        if way in text:
            found.add(name)
            text = text.replace(way, " ")
    return found


def test_a_caption_says_nothing_that_is_not_so(captions):
    rng = np.random.default_rng(0)
    for face in faces(40):
        true = set(captions.words_of(face))
        for _ in range(20):
            text = captions.caption(face, rng)[0]
            assert meant(captions, text) <= true, (text, face)


def test_every_word_is_said_and_an_eighth_of_the_captions_is_empty(captions):
    rng = np.random.default_rng(0)
    texts = [captions.caption(face, rng)[0] for face in faces(60) for _ in range(40)]
    assert set().union(*(meant(captions, text) for text in texts)) == set(captions.WORDS)
    assert sum(not text for text in texts) / len(texts) == pytest.approx(captions.WORDLESS, abs=0.03)  # four sigma


def test_words_of_one_attribute_exclude_each_other(captions):
    for name, word in captions.WORDS.items():
        for other, rival in captions.WORDS.items():
            if name != other and word.attribute == rival.attribute:
                assert word.highest < rival.lowest or rival.highest < word.lowest, (name, other)
