"""How much of a picture follows its h: the measures, and the node on the demo model."""

import math
import re

import pytest
import torch
from models import sigmas

from directions import norm_matched_noise, relative_distance, share_of_way


def pictures(seed: int) -> torch.Tensor:
    return torch.rand(3, 8, 8, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0, -0.5])
def test_a_picture_on_the_way_to_the_other_has_followed_by_its_share_of_the_way(share):
    own, other = pictures(0), pictures(1)
    changed = own + share * (other - own)
    torch.testing.assert_close(share_of_way(changed, own, other), torch.full((3,), share).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        relative_distance(changed, own, other), torch.full((3,), abs(share)).double(), atol=1e-6, rtol=0
    )


def test_what_is_at_right_angles_moves_a_picture_but_is_not_following():
    own, other, step = pictures(0), pictures(1), pictures(2)
    way = (other - own).flatten(1)
    step = step.flatten(1) - (step.flatten(1) * way).sum(1, keepdim=True) / way.square().sum(1, keepdim=True) * way
    changed = own + step.reshape(own.shape)
    assert share_of_way(changed, own, other).abs().max() < 1e-6
    assert relative_distance(changed, own, other).min() > 0.1


def test_noise_has_the_norm_of_the_difference_in_each_sample_at_each_timestep():
    difference = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    difference *= torch.tensor([1.0, 10.0, 0.1]).reshape(1, 3, 1, 1, 1)
    noise = norm_matched_noise(difference, torch.Generator().manual_seed(1))
    size = (2, 3, 4)
    torch.testing.assert_close(noise.square().sum(size), difference.square().sum(size))
    cosine = (noise * difference).sum() / noise.norm() / difference.norm()
    assert abs(cosine) < 4 / math.sqrt(difference.numel())


@pytest.fixture
def probe(faces):
    node = faces.node("HSpaceProbe")

    def run(windows: str, sampler="euler", model=faces.model, cfg=1.0, pairs=1):
        import comfy.samplers

        with torch.inference_mode():
            return node.execute(
                model, faces.empty, faces.empty, comfy.samplers.sampler_object(sampler), faces.sigmas(4), faces.latent,
                faces.vae, windows, pairs, 0, cfg, 64,
            )  # fmt: skip

    return run


@pytest.mark.comfy
def test_the_demo_faces_follow_their_h_and_not_noise(probe):
    sheet, follows, info = probe("0-1", pairs=2).result
    assert follows > 0.7
    noise = float(info.split("moves it ")[1].split("%")[0]) / 100
    assert noise < 0.3
    assert info.startswith(f"middle, 0 to 1: given another picture's h, a picture goes {follows:.0%} of the way to it")
    assert sheet.shape[0] == 1


@pytest.mark.comfy
def test_faces_that_were_plainly_trained_follow_theirs_little(faces, words):
    """As the swap of each attribute says (demo/prompted/README.md): the head turns, some hair goes along, no more."""
    prompt, empty, steps = words.encode("portrait of a person"), words.encode(""), sigmas(words.model, 4)
    with torch.inference_mode():
        probed = faces.node("HSpaceProbe").execute(
            words.model, prompt, empty, faces.euler, steps, words.latent, words.vae, "0-1", 2, 0, 3.0, 64
        )
    _, follows, info = probed.result
    assert 0.05 < follows < 0.4
    (above,) = re.findall(r"^output\.6, .* goes (\d+)% of the way", info, re.MULTILINE)
    assert int(above) > 80  # two levels up it is the other picture


@pytest.mark.comfy
def test_guidance_changes_nothing_where_both_sides_are_the_same(probe):
    assert probe("0-1", cfg=3.0).result[1] == pytest.approx(probe("0-1").result[1], abs=0.02)


@pytest.mark.comfy
def test_a_picture_with_its_own_h_put_back_stays_as_it_was(faces):
    """To float16, in which h is recorded."""
    host, sample = faces.module("nodes.host"), faces.module("nodes.host.sampling").sample
    run = dict(positive=faces.empty, negative=faces.empty, cfg=1.0, sampler=faces.euler, sigmas=faces.sigmas(4))
    run |= dict(latent=faces.latent, seeds=[0, 1], on_step=lambda x0: None)
    recording, recorder = host.record(faces.model, "positive")
    plain = sample(recording, **run)
    same = sample(host.substitute(faces.model, {"middle": {"positive": recorder.h["middle"]}}, 0.0, 1.0), **run)
    torch.testing.assert_close(same, plain, atol=5e-3, rtol=0)
    swapped = {"positive": {t: h.flip(0) for t, h in recorder.h["middle"].items()}}
    assert (sample(host.substitute(faces.model, {"middle": swapped}, 0.0, 1.0), **run) - plain).abs().max() > 0.2
    assert torch.equal(sample(host.substitute(faces.model, {"middle": swapped}, 0.5, 0.5), **run), plain)


@pytest.mark.comfy
@pytest.mark.parametrize(
    ("windows", "message"),
    [("0.5-0.2", "Can't read the windows"), ("", "There is no window"), ("0-2", "from 0 to 1"), ("a-b", "0-0.5")],
)
def test_windows_that_make_no_sense_are_refused(probe, windows, message):
    with pytest.raises(ValueError, match=message):
        probe(windows)


@pytest.mark.comfy
def test_a_sampler_that_chooses_its_own_steps_is_refused(faces):
    host, sample = faces.module("nodes.host"), faces.module("nodes.host.sampling").sample
    model = host.substitute(faces.model, {"middle": {"positive": {500.0: torch.zeros(1, 128, 8, 8)}}}, 0.0, 1.0)
    with pytest.raises(ValueError, match="chooses its own steps"):
        sample(
            model, positive=faces.empty, negative=faces.empty, cfg=1.0, sampler=faces.euler, sigmas=faces.sigmas(3),
            latent=faces.latent, seeds=[0], on_step=lambda x0: None,
        )  # fmt: skip
