"""A transformer's blocks on a card that isn't there: an edit and a recording wait for nothing."""

import importlib
from dataclasses import dataclass

import pytest
import torch
from pretended_card import PretendedCard
from test_on_a_card import Denoiser, at, counts_of, on_card, options_of
from tiny_transformers import WIDTH, transformer

pytestmark = pytest.mark.comfy

SCHEDULE = torch.tensor([0.9, 0.5, 0.1, 0.0])


@dataclass
class FluxDenoiser(Denoiser):
    def __call__(self, x, sigma, model_options=None, **kwargs):
        options = dict((model_options or options_of(self.patcher))["transformer_options"])
        options |= {"cond_or_uncond": [0, 1], "uuids": list(self.prompts), "sigmas": sigma}
        words, summary, guidance = (torch.zeros(2 * len(x), *size, device=x.device) for size in ((7, 16), (24,), ()))
        pair = self.patcher.model.apply_model(
            torch.cat([x, x]), torch.cat([sigma, sigma]), c_crossattn=words, y=summary, guidance=guidance,
            transformer_options=options,
        )  # fmt: skip
        return sum(pair.chunk(2)) / 2


@pytest.fixture
def card():
    with PretendedCard() as card:
        yield card


def latent():
    return torch.empty(2, 16, 6, 10, device="cuda")


def test_after_the_first_call_an_edit_of_every_block_waits_for_nothing(card, pack, host):
    model = transformer("Flux")
    plain = FluxDenoiser(on_card(model))
    card.clear()
    plain(latent(), at(0.9))
    core = counts_of(card, "the model")
    deltas = {site: torch.randn(3, WIDTH, 1, 1) for site in host.sites_of(model)}
    source = pack.directions.Source("Flux", "0", "positive", (64, 64))
    timesteps = torch.tensor([900.0, 500.0, 100.0])
    found = pack.directions.Direction(deltas, timesteps, "d", "random", "one", source, "{}")
    edited = host.inject(model, found, [1.0])
    editing, injection = FluxDenoiser(edited), importlib.import_module(f"{pack.__name__}.nodes.host.injection")
    with injection.sampling_of(model, SCHEDULE, edited.model_options):
        editing(latent(), at(0.9))
        counts_of(card, "the first call of an edit")
        for sigma in (0.5, 0.1):
            editing(latent(), at(sigma))
            assert counts_of(card, "an edit") == core


def test_recording_every_block_waits_for_nothing(card, host):
    model = on_card(transformer("Flux"))
    watched, _ = host.record(model, "positive", host.sites_of(model))
    card.clear()
    FluxDenoiser(watched)(latent(), at(0.5))
    reads, waits, uploads, downloads = counts_of(card, "with recording")
    assert (reads, waits, uploads) == (0, 0, 0)
    assert downloads == 3 * len(host.sites_of(model))  # of each a timestep, x and h
