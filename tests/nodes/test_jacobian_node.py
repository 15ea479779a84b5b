"""Find Directions (Jacobian) on the demo model."""

import importlib
import json

import pytest
import torch
from demo_faces import DemoFaces

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def faces(pack):
    with torch.inference_mode():
        return DemoFaces(pack)


@pytest.fixture(scope="module")
def find(pack, faces):
    node = importlib.import_module(f"{pack.__name__}.nodes.find.jacobian").HSpaceFindJacobian

    def find(
        percents="0.5", count=2, protect_outside=0, mask=None, seed=5, latent=None, steps=4, sampler=None, cfg=1.0,
        branch="positive", positive=None,
    ):  # fmt: skip
        with torch.inference_mode():
            return node.execute(
                faces.model, positive or faces.empty, faces.empty, sampler or faces.euler, faces.sigmas(steps),
                latent or faces.latent, seed, percents, count, cfg, protect_outside, branch, mask,
            ).result  # fmt: skip

    return find


@pytest.fixture(scope="module")
def found(find):
    return find(percents="0.3, 0.6")


def swept(faces, direction):
    """Its pictures at strengths 0 and 2, of seed 5."""
    return faces.node("HSpaceSweep").execute(
        faces.model, faces.empty, faces.empty, faces.euler, faces.sigmas(4), faces.latent, faces.vae, direction,
        strengths="0, 2", rows=1, first_seed=5, batch_size=1, cfg=1.0, picture_size=64, start_percent=0.0,
        end_percent=1.0, apply_to="both", fit="resize",
    ).result[1]  # fmt: skip


def mouth():
    mask = torch.zeros(1, 128, 128)  # of any size: it is pooled to the latent's
    mask[:, 80:104, 40:88] = 1
    return mask


def test_every_percent_gives_its_own_directions_constant_over_the_steps(found):
    directions, _, info = found
    assert len(directions) == 4
    timesteps = [float(each.timesteps) for each in directions]
    assert timesteps[0] == timesteps[1] > timesteps[2] == timesteps[3]
    assert [each.name for each in directions] == [f"t {t:.0f} no. {1 + i % 2}" for i, t in enumerate(timesteps)]
    assert (directions.spectrum[0] > directions.spectrum[1]) and (directions.spectrum[2] > directions.spectrum[3])
    assert info.count("singular values") == 2
    recipe = json.loads(directions[3].recipe)
    assert recipe["find"] == "Jacobian" and recipe["number"] == 2 and recipe["seed"] == 5


def test_the_picture_is_the_samplers_own(faces, found):
    from models import core_sample

    own = core_sample(faces.model, "euler", faces.sigmas(4), faces.empty, faces.empty, faces.latent, 5)
    assert torch.equal(found[1]["samples"], own)


def test_the_directions_repeat_exactly(find, found):
    again, _, _ = find(percents="0.3, 0.6")
    assert all(one == other for one, other in zip(found[0], again, strict=True))


def test_a_singular_value_is_the_change_of_eps_by_a_unit_of_h(pack, faces, find):
    """Measured on the whole model, by its denoised picture with and without a small step along the direction."""
    host = importlib.import_module(f"{pack.__name__}.nodes.host")
    directions, _, _ = find(percents="0", count=1)
    schedule = faces.sigmas(4)
    direction, size = directions[0], 1e-2
    sampling = importlib.import_module(f"{pack.__name__}.nodes.host.sampling")
    predicted = []
    for strength in (0.0, size):
        seen: list = []
        sampling.sample(
            host.inject(faces.model, direction, [strength]), positive=faces.empty, negative=faces.empty, cfg=1.0,
            sampler=faces.euler, sigmas=schedule[:2], latent=faces.latent, seeds=[5], on_step=seen.append,
        )  # fmt: skip
        predicted.append(seen[0].double())
    change_of_eps = (predicted[1] - predicted[0]).norm() / schedule[0]
    per_unit = change_of_eps / (size * direction.deltas["middle"].double().norm())
    assert per_unit == pytest.approx(float(directions.spectrum[0, 0]), rel=0.02)  # a finite difference


def test_with_a_mask_and_protection_the_picture_changes_inside(faces, find):
    directions, _, _ = find(percents="0.6", count=1, mask=mouth(), protect_outside=10)
    pictures = swept(faces, directions)
    change = (pictures[1] - pictures[0]).square().mean(-1)
    inside = torch.nn.functional.adaptive_avg_pool2d(mouth(), (64, 64))[0] > 0.5
    assert change[inside].mean() > 10 * change[~inside].mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percents": "0.5, 0.51"}, "same step"),
        ({"percents": "1.5"}, "0 to 1"),
        ({"percents": "half"}, "Can't read the percents"),
        ({"mask": torch.zeros(1, 64, 64)}, "all black"),
        ({"mask": torch.ones(2, 64, 64)}, "must be one"),
        ({"latent": {"samples": torch.zeros(2, 3, 64, 64)}}, "one picture"),
    ],
)
def test_bad_input_says_what_is_wanted(find, options, message):
    with pytest.raises(ValueError, match=message):
        find(**options)


def test_a_branch_that_cfg_1_skips_is_named_with_its_percents(find):
    message = r"negative prompt is left out at percent 0\.3, percent 0\.6: .* At cfg 1 ComfyUI skips .* raise cfg"
    with pytest.raises(ValueError, match=message):
        find(percents="0.3, 0.6", branch="negative")
    assert len(find(percents="0.3", count=1, branch="negative", cfg=2.0)[0]) == 1


def test_percents_that_a_sampler_passes_by_are_named(find):
    import comfy.samplers

    churning = comfy.samplers.ksampler("euler", {"s_churn": 1.0})
    with pytest.raises(
        ValueError, match=r"steps of its own: got other sigmas than that of percent 0\.5, .* without churn"
    ):
        find(sampler=churning)
    # it churns above sigma 5 only: the later percent is seen
    churning_first = comfy.samplers.ksampler("euler", {"s_churn": 1.0, "s_tmin": 5.0})
    with pytest.raises(ValueError, match=r"than that of percent 0, wanted the"):
        find(percents="0, 0.7", sampler=churning_first)


def test_a_prompt_that_ends_before_a_percent_is_named(find, faces):
    import nodes

    (positive,) = nodes.ConditioningSetTimestepRange().set_range(faces.empty, 0.0, 0.5)
    with pytest.raises(ValueError, match=r"positive prompt is left out at percent 0\.8: .* must cover"):
        find(percents="0, 0.8", positive=positive)
