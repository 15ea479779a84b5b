"""Captions of the demo faces: what a person might write of a face, from its attributes.

A caption says some of what is seen, in any order, as a sentence or as tags. A value between two words is called
neither. How far the eyes are open and the background are never written of: what no word names.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

WORDLESS = 0.12
"""Share of captions that are empty, for classifier-free guidance."""

PREFIXES = ("portrait of", "a portrait of", "a drawing of", "a photo of", "a picture of", "")
NOUNS = ("person", "man", "woman", "face")
"""They mean nothing here: the faces have no such attribute."""

STRANGE = ("masterpiece", "street", "8k", "watercolor", "by night", "castle", "very detailed", "in the style of", "the")
"""Words that say nothing of a face."""


@dataclass(frozen=True)
class Word:
    """A meaning that captions can have: the attribute's values it stands for, and ways to write it."""

    attribute: str
    lowest: float
    highest: float
    adjectives: tuple[str, ...]
    phrases: tuple[str, ...]

    def fits(self, value: float) -> bool:
        return self.lowest <= value <= self.highest


WORDS: Mapping[str, Word] = {
    "smiling": Word("smile", 0.45, 1, ("smiling", "happy"), ("smiling", "with a smile", "smile")),
    "neutral": Word("smile", -0.1, 0.3, ("serious",), ("with a neutral expression", "serious")),
    "frowning": Word("smile", -1, -0.25, ("frowning", "sad"), ("frowning", "with a frown")),
    "young": Word("age", 0, 0.3, ("young",), ("young",)),
    "middle-aged": Word("age", 0.4, 0.6, ("middle-aged",), ("middle-aged",)),
    "old": Word("age", 0.7, 1, ("old", "elderly"), ("old", "of old age")),
    "glasses": Word("glasses", 1, 1, (), ("with glasses", "wearing glasses", "glasses")),
    "no glasses": Word("glasses", 0, 0, (), ("without glasses", "no glasses")),
    "beard": Word("beard", 1, 1, ("bearded",), ("with a beard", "beard")),
    "no beard": Word("beard", 0, 0, ("clean-shaven",), ("without a beard", "no beard", "clean-shaven")),
    "long hair": Word("hair_length", 0.6, 1, ("long-haired",), ("with long hair", "long hair")),
    "short hair": Word("hair_length", 0, 0.4, ("short-haired",), ("with short hair", "short hair")),
    "black hair": Word("hair_hue", 0, 0.2, (), ("with black hair", "black hair")),
    "brown hair": Word("hair_hue", 0.28, 0.7, (), ("with brown hair", "brown hair")),
    "blond hair": Word("hair_hue", 0.85, 1, ("blond",), ("with blond hair", "blond hair", "blonde hair")),
    "looking left": Word("yaw", -1, -0.4, (), ("looking left", "facing left")),
    "looking ahead": Word("yaw", -0.25, 0.25, (), ("looking ahead", "facing the viewer")),
    "looking right": Word("yaw", 0.4, 1, (), ("looking right", "facing right")),
    "light skin": Word("skin", 0, 0.4, ("light-skinned",), ("with light skin", "light skin")),
    "dark skin": Word("skin", 0.6, 1, ("dark-skinned",), ("with dark skin", "dark skin")),
}


def words_of(face: Mapping[str, float]) -> list[str]:
    """The names in `WORDS` that are true of a face."""
    return [name for name, word in WORDS.items() if word.fits(face[word.attribute])]


def caption(face: Mapping[str, float], rng: np.random.Generator) -> tuple[str, list[str]]:
    """A caption of a face, which says any subset of its words, or nothing; and their names in `WORDS`."""
    if rng.random() < WORDLESS:
        return "", []
    share = rng.uniform(0, 1.3)
    names = [name for name in words_of(face) if rng.random() < share]
    names = [names[i] for i in rng.permutation(len(names))]
    said = [WORDS[name] for name in names]
    text = _sentence(said, rng) if rng.random() < 0.6 else _tags(said, rng)
    return text if rng.random() < 0.5 else text[:1].upper() + text[1:], names


def _tags(said: list[Word], rng: np.random.Generator) -> str:
    tags = [str(rng.choice(word.phrases + word.adjectives)) for word in said]
    for extra in (NOUNS, STRANGE):
        if rng.random() < 0.3:
            tags.insert(rng.integers(len(tags) + 1), str(rng.choice(extra)))
    return str(rng.choice((", ", " "), p=(0.8, 0.2))).join(tags)


def _sentence(said: list[Word], rng: np.random.Generator) -> str:
    before = [word for word in said if word.adjectives and rng.random() < 0.6]
    after = [word for word in said if word not in before]
    if rng.random() < 0.1:
        before.append(Word("", 0, 0, (str(rng.choice(STRANGE)),), ()))
    adjectives = " ".join(str(rng.choice(word.adjectives)) for word in before)
    phrases = [str(rng.choice(word.phrases)) for word in after]
    article = str(rng.choice(("a", "an", "the", ""), p=(0.6, 0.1, 0.1, 0.2)))
    joint = str(rng.choice((", ", " and ", " "), p=(0.5, 0.3, 0.2)))
    parts = (str(rng.choice(PREFIXES)), article, adjectives, str(rng.choice(NOUNS)), joint.join(phrases))
    return " ".join(filter(None, parts))
