"""Sites as names: what a model has, and that reading and editing happen there and nowhere else."""

import importlib

import pytest
import torch
from models import FULL, SDXL, conditioning, core_sample, sd15, sigmas

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def site_files(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.host.sites")


@pytest.fixture(scope="module")
def kinds(nodes_of_pack):
    """Both kinds of model: (model, positive, negative, latent, the decoder's levels)."""
    demo, _, empty, pixels = nodes_of_pack.HSpaceLoadDDPM.execute("demo faces (built in)").result
    latent = {"samples": torch.zeros(2, 4, 32, 32)}
    return {
        "sd": (sd15(), conditioning(1), conditioning(2), latent, ("output.2", "output.4", "output.6")),
        "ddpm": (demo, empty, empty, {"samples": torch.zeros(2, 3, 64, 64)}, ("output.2", "output.4", "output.6")),
    }


@pytest.fixture(params=["sd", "ddpm"])
def kind(request, kinds):
    return kinds[request.param]


def run(model, kind, cfg=3.0):
    _, positive, negative, latent, _ = kind
    return core_sample(model, "euler", sigmas(model, 3), positive, negative, latent, 0, cfg)


def recorded(host, model, kind, sites):
    recording, recorder = host.record(model, "positive", sites)
    latents = run(recording, kind)
    return latents, *recorder.trajectory()


def random_direction(pack, host, model, h, timesteps, scale=0.5):
    directions = importlib.import_module(f"{pack.__name__}.directions")
    generator = torch.Generator().manual_seed(0)
    deltas = {site: scale * torch.randn(each.shape[1:], generator=generator) for site, each in h.items()}
    return directions.Direction(
        deltas=deltas, timesteps=timesteps, name="d", method="random", unit="one", recipe="{}",
        source=directions.Source(host.model_family(model), "0", "positive", (64, 64)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("layout", "levels"),
    [(FULL, ["middle", "output.3", "output.6", "output.9"]), (SDXL, ["middle", "output.3", "output.6"])],
    ids=["SD 1.5", "SDXL"],
)
def test_the_first_block_of_each_level_is_found(site_files, layout, levels):
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from comfy.ops import disable_weight_init

    with torch.device("meta"):
        unet = UNetModel(
            image_size=32, in_channels=4, out_channels=4, legacy=False, use_spatial_transformer=True,
            operations=disable_weight_init, **{"transformer_depth_middle": 1, **layout},
        )  # fmt: skip
    assert list(site_files.levels_of(_Model(unet))) == levels


class _Model:
    def __init__(self, unet):
        self.unet = unet

    def get_model_object(self, name):
        return self.unet


def test_every_level_is_a_site(kind, site_files):
    sites = site_files.sites_of(kind[0])
    assert site_files.levels_of(kind[0]) == ("middle", *kind[4])
    assert set(site_files.levels_of(kind[0])) <= set(sites)


def test_recording_changes_nothing(kind, host):
    latents, timesteps, h = recorded(host, kind[0], kind, ("middle", *kind[4]))
    assert torch.equal(latents, run(kind[0], kind))
    assert len(timesteps) == 3 and all(each.shape[:2] == (2, 3) for each in h.values())
    assert [each.shape[3] for each in h.values()] == sorted(each.shape[3] for each in h.values())  # larger upwards


def test_an_edit_at_each_site_is_the_delta_at_the_first_step(kind, host, pack):
    """At the first step nothing has moved yet, so what each site gets is its own delta and what came from below."""
    model = kind[0]
    for site in ("middle", *kind[4]):
        _, timesteps, before = recorded(host, model, kind, (site,))
        d = random_direction(pack, host, model, before, timesteps)
        _, _, after = recorded(host, host.inject(model, d, [1.0]), kind, (site,))
        moved = after[site][:, 0].float() - before[site][:, 0].float()
        rounding = 2e-3 * float(after[site].abs().max())  # of float16
        torch.testing.assert_close(moved, d.deltas[site][:1].expand(2, -1, -1, -1), atol=rounding, rtol=0.01)


def test_several_sites_are_edited_at_once(kind, host, pack):
    """The same picture as by one direction of each site alone, in a chain."""
    model, sites = kind[0], ("middle", *kind[4])
    _, timesteps, h = recorded(host, model, kind, sites)
    d = random_direction(pack, host, model, h, timesteps, scale=0.05)
    chained = model
    for site in reversed(sites):
        part = random_direction(pack, host, model, h, timesteps, scale=0.05)
        part = importlib.import_module("dataclasses").replace(part, deltas={site: d.deltas[site]})
        chained = host.inject(chained, part, [1.0])
    together = run(host.inject(model, d, [1.0]), kind)
    assert torch.equal(together, run(chained, kind))
    assert not torch.equal(together, run(model, kind))


def test_strength_0_at_every_site_is_the_model(kind, host, pack):
    _, timesteps, h = recorded(host, kind[0], kind, ("middle", *kind[4]))
    d = random_direction(pack, host, kind[0], h, timesteps)
    assert torch.equal(run(host.inject(kind[0], d, [0.0]), kind), run(kind[0], kind))


def test_another_pictures_h_at_a_level_takes_the_place_of_all_below(kind, host):
    model, sites = kind[0], ("middle", *kind[4])
    recording, recorder = host.record(model, "positive", sites)
    recording, other = host.record(recording, "negative", sites)
    plain = run(recording, kind)

    def swapped(chosen):
        given = {
            site: {
                each.branch: {t: h.flip(0) for t, h in each.h[site].items()}
                for each in (recorder, other)
                if each.h[site]
            }
            for site in chosen
        }
        return (run(host.substitute(model, given, 0.0, 1.0), kind) - plain).abs().mean()

    assert swapped(sites) == swapped(sites[-1:]) > swapped(sites[:1]) > 0
