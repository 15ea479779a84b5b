"""A direction found with one sampler works with others: the demo model, judged by its attribute classifier."""

import importlib
from pathlib import Path

import pytest
from models import sigmas

pytestmark = pytest.mark.comfy

SEEDS = range(500, 508)


@pytest.fixture(scope="module")
def effect(pack, nodes_of_pack):
    """What strength -2 to 2 of a starter direction does to an attribute's mean score, by sampler and steps."""
    import comfy.samplers

    demo = Path(__file__).parents[2] / "demo"
    attributes = importlib.import_module(f"{pack.__name__}.demo.attributes")
    judge = attributes.AttributeClassifier.load(demo / "classifier")
    host = importlib.import_module(f"{pack.__name__}.nodes.host")
    directions = importlib.import_module(f"{pack.__name__}.directions")
    model, _, empty, latent = nodes_of_pack.HSpaceLoadDDPM.execute("demo faces (built in)").result

    def measure(file: str, attribute: str, sampler: str, steps: int) -> float:
        direction = directions.load_direction(demo / "directions" / file)
        ends = []
        for strength in (-2.0, 2.0):
            pictures = host.sample(
                host.inject(model, direction, [strength]), positive=empty, negative=empty, cfg=1.0,
                sampler=comfy.samplers.sampler_object(sampler), sigmas=sigmas(model, steps), latent=latent,
                seeds=SEEDS, on_step=lambda x0: None,
            )  # fmt: skip
            ends.append(judge.scores(pictures.clamp(-1, 1)).mean(0)[judge.attributes.index(attribute)])
        return float(ends[1] - ends[0])

    return measure


def test_a_direction_has_the_same_effect_with_other_samplers_and_step_counts(effect):
    reference = effect("demo pose.safetensors", "yaw", "euler", 10)
    assert abs(reference) > 0.5  # a quarter of the attribute's range: else there is nothing to compare
    for sampler, steps in (("dpmpp_2m", 20), ("euler_ancestral", 50)):
        assert 0.5 < effect("demo pose.safetensors", "yaw", sampler, steps) / reference < 2
