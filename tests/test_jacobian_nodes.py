"""Find Directions (Jacobian) and Explore Directions on the demo model."""

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

    def find(percents="0.5", count=2, protect_outside=0, mask=None, seed=5, latent=None, steps=4):
        with torch.inference_mode():
            return node.execute(
                faces.model, faces.empty, faces.empty, faces.euler, faces.sigmas(steps), latent or faces.latent, seed,
                percents, count, 1.0, protect_outside, "positive", mask,
            ).result  # fmt: skip

    return find


@pytest.fixture(scope="module")
def found(find):
    return find(percents="0.3, 0.6")


def explore(pack, faces, directions, **changed):
    node = importlib.import_module(f"{pack.__name__}.nodes.inject.explore").HSpaceExplore
    options = dict(seed=5, strengths="-2, 0, 2", first=1, rows=9) | changed
    return node.execute(
        faces.model, faces.empty, faces.empty, faces.euler, faces.sigmas(4), faces.latent, faces.vae, directions,
        cfg=1.0, picture_size=64, start_percent=0.0, end_percent=1.0, apply_to="both", fit="resize", **options,
    ).result  # fmt: skip


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
    per_unit = change_of_eps / (size * direction.delta.double().norm())
    assert per_unit == pytest.approx(float(directions.spectrum[0, 0]), rel=0.02)  # a finite difference


def test_with_a_mask_and_protection_the_picture_changes_inside(pack, faces, find):
    directions, _, _ = find(percents="0.6", count=1, mask=mouth(), protect_outside=10)
    _, pictures = explore(pack, faces, directions, strengths="0, 2")
    change = (pictures[1] - pictures[0]).square().mean(-1)
    inside = torch.nn.functional.adaptive_avg_pool2d(mouth(), (64, 64))[0] > 0.5
    assert change[inside].mean() > 10 * change[~inside].mean()


def test_exploring_shows_strength_0_as_the_bare_picture(pack, faces, found):
    grid, pictures = explore(pack, faces, found[0])
    shown = pictures.unflatten(0, (4, 3))
    bare = faces.vae.decode(found[1]["samples"])[0]
    assert all(torch.equal(row[1], bare) for row in shown)
    assert all(not torch.allclose(row[0], row[2], atol=0.02) for row in shown)
    assert grid.shape[0] == 1 and grid.shape[2] > 4 * 64


def test_exploring_can_begin_later_and_end_early(pack, faces, found):
    _, all_of_them = explore(pack, faces, found[0])
    _, third = explore(pack, faces, found[0], first=3, rows=1)
    assert torch.equal(third, all_of_them[6:9])
    with pytest.raises(ValueError, match="holds 4"):
        explore(pack, faces, found[0], first=5)


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


def test_difference_maps_are_white_where_nothing_changes_and_bluest_where_most_does(pack):
    picture = importlib.import_module(f"{pack.__name__}.nodes.ui.sheets")
    plain = torch.zeros(1, 4, 4, 3)
    edited = torch.zeros(2, 2, 4, 4, 3)
    edited[0, 1, 0, 0], edited[1, 0, 1, 1] = 252 / 255, 63 / 255  # whole steps of 8 bits
    maps = picture.difference_maps(edited, plain)
    assert maps.shape == (2, 4, 4, 3)
    assert (maps[0, 3] == 1).all()
    full = 1 - torch.tensor([0, 0x72, 0xB2]) / 255
    torch.testing.assert_close(1 - maps[0, 0, 0], full)
    torch.testing.assert_close(1 - maps[1, 1, 1], 0.5 * full)
