"""How good the prompted faces are, and where their meaning is: what their card says.

    python -m pytest -s tests/benchmarks/prompted.py            (a quarter of an hour on two cores)

Figures go to demo/prompted/measurements.json, pictures beside it.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
import torch
from prompted_model import CFG, ROOT, PromptedModel
from results import remember

FOLDER = ROOT / "demo" / "prompted"
RESULTS = "measurements.json"
SEEDS = 64
SWAP_PAIRS, SWAP_STEPS = 48, 10
SAMPLES, FRESH = 512, 2_000

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def faces(pack):
    return PromptedModel(pack)


def prompts(count: int, seed: int, without: Collection[str] = ()) -> list[str]:
    """Captions of fresh faces, tags of some of their words; none of the attributes `without`."""
    from captions import WORDS, words_of
    from faces import ATTRIBUTES, render_batch

    rng = np.random.default_rng(seed)
    _, attributes = render_batch(count, 99_000 + seed)
    texts = []
    for row in attributes:
        names = words_of(dict(zip(ATTRIBUTES, row, strict=True)))
        said = [WORDS[name].phrases[0] for name in names if WORDS[name].attribute not in without and rng.random() < 0.4]
        texts.append(", ".join(said))
    return texts


def bounds(name: str) -> tuple[float, float]:
    """Between which values a word is taken to be true: halfway to its neighbours."""
    from captions import WORDS

    word = WORDS[name]
    rivals = [other for other in WORDS.values() if other.attribute == word.attribute]
    below = [(other.highest + word.lowest) / 2 for other in rivals if other.highest < word.lowest]
    above = [(other.lowest + word.highest) / 2 for other in rivals if other.lowest > word.highest]
    return max(below, default=-np.inf), min(above, default=np.inf)


def test_pictures_are_what_the_prompt_says(faces):
    measure_words(faces, FOLDER)


def measure_words(faces: PromptedModel, folder: Path) -> None:
    from captions import WORDS
    from faces import ATTRIBUTES

    accuracy = {}
    for number, (name, word) in enumerate(WORDS.items()):
        text = f"portrait of a person, {word.phrases[0]}"
        seeds = range(1000 * number, 1000 * number + SEEDS)
        scores = faces.scores(faces.pictures([text] * SEEDS, seeds))[:, ATTRIBUTES.index(word.attribute)]
        low, high = bounds(name)
        accuracy[name] = float(((scores > low) & (scores < high)).float().mean())
        print(f"{name:14} {accuracy[name]:.2f}", flush=True)
    remember(folder / RESULTS, "accuracy", accuracy)


def test_pictures_without_a_prompt_are_like_the_data(faces):
    measure_pictures(faces, FOLDER)


def measure_pictures(faces: PromptedModel, folder: Path) -> None:
    from faces import render_batch
    from measure import measure_cleanliness, measure_distribution, save_sheet

    drawn = (faces.pictures([""] * SAMPLES, range(50_000, 50_000 + SAMPLES), cfg=1.0) * 255).round().byte().numpy()
    fresh, _ = render_batch(FRESH, 40_000_000)
    reference, _ = render_batch(20_000, 30_000_000)
    remember(folder / RESULTS, "distribution", measure_distribution(drawn, fresh, faces.network))
    remember(folder / RESULTS, "cleanliness", measure_cleanliness(drawn, fresh, reference))
    save_sheet(drawn, folder / "samples.jpg")
    said = prompts(48, seed=1)
    prompted = (faces.pictures(said, range(48)) * 255).round().byte().numpy()
    remember(folder / RESULTS, "prompted cleanliness", measure_cleanliness(prompted, fresh, reference))
    save_sheet(prompted, folder / "prompted.jpg")


class Swap:
    """Reads what enters the middle's end and every decoder block, or puts another sampling's in its place."""

    def __init__(self):
        self.read: dict[tuple[str, float], torch.Tensor] = {}
        self.given: dict[tuple[str, float], torch.Tensor] = {}

    def patched(self, model):
        patched = model.clone()
        patched.set_model_middle_block_after_patch(self.middle)
        patched.set_model_output_block_patch(self.output)
        return patched

    def middle(self, args):
        options = args["transformer_options"]
        return {"h": self.exchanged("middle", args["h"], options)}

    def output(self, h, skip, options):
        number = options["block"][1]
        h = self.exchanged(f"output.{number}", h, options) if number else h  # what enters block 0 is the middle's
        return h, self.exchanged(f"skip.{number}", skip, options)

    def exchanged(self, site, h, options):
        key = site, float(options["sigmas"][0])
        self.read[key] = h
        return self.given.get(key, h)


SWAPPED = [
    ("middle",),
    ("output.3",),
    ("output.6",),
    ("middle", "output.3"),
    ("middle", "output.3", "output.6"),
    *(tuple(f"skip.{number}" for number in range(first, first + 3)) for first in (0, 3, 6)),
]
"""The bottleneck, what enters the first block of each level above, both, all, and the skips of each level."""


def test_where_the_meaning_is(faces):
    """For each attribute, how much of its score follows the face that gave what is at the sites: 1 all, 0 nothing."""
    own, donor, swapped = [], [], {sites: [] for sites in SWAPPED}

    def scores(texts, seeds, swap):
        return faces.scores(faces.pictures(texts, seeds, steps=SWAP_STEPS, model=swap.patched(faces.model)))

    for first in range(0, SWAP_PAIRS, 16):
        mine = prompts(16, seed=11 + first), range(8000 + first, 8016 + first)
        theirs = prompts(16, seed=12 + first), range(7000 + first, 7016 + first)
        giver, taker = Swap(), Swap()
        donor.append(scores(*theirs, giver))
        own.append(scores(*mine, taker))
        for sites, results in swapped.items():
            taker.given = {key: h for key, h in giver.read.items() if key[0] in sites}
            results.append(scores(*mine, taker))
    causes = [torch.cat(each).double() for each in (donor, own)]
    shares = {", ".join(sites): shares_of(*causes, torch.cat(each).double()) for sites, each in swapped.items()}
    for name, share in shares.items():
        print(f"{name:40}" + " ".join(f"{a} {v:.2f}" for a, v in share.items()), flush=True)
    remember(FOLDER / RESULTS, "swap", shares)


def shares_of(donor: torch.Tensor, own: torch.Tensor, result: torch.Tensor) -> dict[str, float]:
    """What least squares gives the donor's score of what it gives both, an attribute at a time."""
    from faces import ATTRIBUTES

    shares = {}
    for number, name in enumerate(ATTRIBUTES):
        causes = torch.stack([donor[:, number], own[:, number], torch.ones(len(own)).double()], 1)
        weights = torch.linalg.lstsq(causes, result[:, number : number + 1]).solution[:2, 0]
        shares[name] = float(weights[0] / weights.sum())
    return shares


def test_what_probe_says_of_it(faces):
    """The node, on the bottleneck: how far a picture goes to the one whose h it is given."""
    import comfy.samplers
    from demo_faces import node_classes

    plain, empty = faces.prompts(["portrait of a person"]), faces.prompts([""])
    with torch.inference_mode():
        _, follows, info = node_classes(faces.pack).HSpaceProbe.execute(
            faces.model, plain, empty, comfy.samplers.sampler_object("euler"), faces.sigmas(SWAP_STEPS), faces.empty,
            faces.vae, "0-1", 8, 0, CFG, 64,
        ).result  # fmt: skip
    print(info)
    remember(FOLDER / RESULTS, "probe", {"follows": follows, "info": info})
