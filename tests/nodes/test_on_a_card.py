"""Recording on a card that isn't there: nothing waits, nothing is mixed.

The counts are what the pack adds to what ComfyUI's own UNet does; they are printed.
"""

from dataclasses import dataclass, field
from types import SimpleNamespace
from uuid import uuid4

import pytest
import torch
from models import sd15
from pretended_card import PretendedCard

pytestmark = pytest.mark.comfy

SITES = "middle", "output.3", "output.6"


@dataclass
class Denoiser:
    """What a sampler calls: the prediction with both prompts, by ComfyUI's model with a patcher's patches."""

    patcher: object
    latent_image: torch.Tensor | None = None
    noise: torch.Tensor | None = None
    prompts: tuple = field(default_factory=lambda: (uuid4(), uuid4()))

    def __post_init__(self):
        conds = {name: [{"uuid": uuid}] for name, uuid in zip(("positive", "negative"), self.prompts, strict=True)}
        self.inner_model = SimpleNamespace(model_patcher=self.patcher, original_conds=conds)

    def __call__(self, x, sigma, model_options=None, **kwargs):
        options = dict((model_options or options_of(self.patcher))["transformer_options"])
        options |= {"cond_or_uncond": [0, 1], "uuids": list(self.prompts), "sigmas": sigma}
        context = torch.zeros(2 * len(x), 7, 16, device=x.device)
        pair = self.patcher.model.apply_model(
            torch.cat([x, x]), torch.cat([sigma, sigma]), c_crossattn=context, transformer_options=options
        )
        return sum(pair.chunk(2)) / 2


def options_of(patcher) -> dict:
    """As ComfyUI hands them to a sampling."""
    from comfy.ldm.modules.attention import attention_pytorch

    attention = lambda func, *args, **kwargs: attention_pytorch(*args, **kwargs)  # noqa: E731, as on a card
    options = {**patcher.model_options["transformer_options"], "optimized_attention_override": attention}
    return {"transformer_options": {**options, "wrappers": {kind: dict(w) for kind, w in patcher.wrappers.items()}}}


@pytest.fixture
def model():
    return sd15()


@pytest.fixture
def card():
    with PretendedCard() as card:
        yield card


def on_card(patcher):
    """With its UNet there."""
    for module in patcher.model.diffusion_model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            setattr(module, name, torch.nn.Parameter(weight.to("cuda"), requires_grad=False))
    return patcher


def latent(batch: int = 2):
    return torch.empty(batch, 4, 16, 16, device="cuda")


def at(sigma: float, batch: int = 2):
    return torch.full((batch,), sigma, device="cuda")


COUNTS = "reads", "waits", "uploads", "downloads"


def counts_of(card, what: str, calls: int = 1) -> list[float]:
    """How often the last `calls` of the UNet waited, copied to the card and from it, each; printed."""
    counts = [getattr(card, name) / calls for name in COUNTS]
    print(f"\n{what}: " + ", ".join(f"{count:g} {name}" for count, name in zip(counts, COUNTS, strict=True)), end="")
    card.clear()
    return counts


@pytest.fixture
def core(card, model):
    """The counts of a call of the model as it is. From here on its UNet is on the card."""
    plain = Denoiser(on_card(model))
    card.clear()
    plain(latent(), at(5.0))
    return counts_of(card, "the model")


def test_recording_waits_for_nothing(card, core, host, model):
    watched, recorder = host.record(model, "positive", SITES)
    recording = Denoiser(watched)
    for card.answer in (900.0, 500.0, 100.0):
        recording(latent(), at(5.0))
        counts = counts_of(card, "with recording")
        assert counts == [*core[:3], core[3] + 3 * len(SITES)]  # of each a timestep, x and h
    timesteps, h = recorder.trajectory()
    assert timesteps.tolist() == [900, 500, 100]
    assert list(h) == list(SITES)
    for each in h.values():
        assert (each.shape[:2], each.dtype, each.device.type) == ((2, 3), torch.float16, "cpu")
