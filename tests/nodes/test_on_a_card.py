"""Recording, replacement, Asyrp's step and inversion on a card that isn't there: nothing waits, nothing is mixed.

The counts are what the pack adds to what ComfyUI's own UNet does; they are printed.
"""

import importlib
from dataclasses import dataclass, field, replace
from itertools import cycle
from types import SimpleNamespace
from uuid import uuid4

import pytest
import torch
from models import random_direction, sd15, sigmas
from pretended_card import PretendedCard

pytestmark = pytest.mark.comfy

SITES = "middle", "output.3", "output.6"
STEPS = 3


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


@pytest.fixture
def module(pack):
    return lambda name: importlib.import_module(f"{pack.__name__}.nodes.host.{name}")


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
    watched, recorder = host.record(model, "positive", SITES, kept=host.pooled_to(host.GRID))
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


def recorded(shapes: dict, timesteps) -> dict:
    """h of two pictures at each site, on both sides of the guidance."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda shape: torch.randn(2, *shape, generator=generator).half()  # noqa: E731
    sides = "positive", "negative"
    return {
        site: {side: {float(t): draw(shape) for t in timesteps} for side in sides} for site, shape in shapes.items()
    }


def test_a_replacement_waits_for_nothing(card, core, host, module, model):
    schedule = sigmas(model, STEPS)
    timesteps = model.get_model_object("model_sampling").timestep(schedule[:-1]).float()
    shapes = {"middle": (64, 2, 2), "output.3": (64, 4, 4)}
    edited = host.substitute(model, recorded(shapes, timesteps), 0.0, 0.8)
    replacing = Denoiser(edited)
    with module("injection").sampling_of(model, schedule, edited.model_options):
        replacing(latent(), at(5.0))
        counts_of(card, "the first call of a replacement")
        for sigma in (5.0, 1.0):
            replacing(latent(), at(sigma))
            assert counts_of(card, "a replacement") == core
        card.answer = -1.0  # nothing was missed
    assert card.reads == len(shapes)


def test_what_a_card_puts_in_the_place_of_h_is_what_was_recorded_there(module, model):
    """On the CPU, by the table of a card: to the bit, in its window and out of it."""
    sampling, schedule = model.get_model_object("model_sampling"), sigmas(model, 4)
    timesteps = sampling.timestep(schedule[:-1]).float()
    found = recorded({"middle": (64, 2, 2)}, timesteps)["middle"]
    window = module("edits").Window(sampling.percent_to_sigma(0.2), sampling.percent_to_sigma(0.7))
    edit = module("edits").Substitution(found, window)
    layout = module("edits").Layout(("negative", None, "positive"), 2, 64, 2, 2, torch.float32, torch.device("cpu"))
    substituted, moment = module("substituted"), module("moments").Moment
    by_table = substituted.Substituted(edit, layout, substituted.Table.of(edit, layout, sampling), None)
    h, changed = torch.randn(6, 64, 2, 2), []
    for sigma, timestep in zip(schedule[:-1], timesteps, strict=True):
        acts = window.holds(float(sigma))
        wanted = module("edits").replaced(h, layout.branches, edit.recorded_at(float(timestep))) if acts else h
        assert torch.equal(by_table(h, moment(sigma.reshape(1), timestep.reshape(1))), wanted)
        changed.append(acts)
    by_table.require_recorded()
    assert True in changed and False in changed
    inside = sampling.sigma(torch.tensor([400.5]))
    assert window.holds(float(inside))
    assert torch.equal(by_table(h, moment(inside, torch.tensor([400.0]))), h)
    with pytest.raises(ValueError, match="came to timestep 400, where nothing was recorded"):
        by_table.require_recorded()


def injected(pack, host, model, timesteps):
    """At two sites, with the uploads of a step's sums."""
    shapes = {"middle": (64, 2, 2), "output.3": (64, 4, 4)}
    direction = random_direction(pack, model, shapes["middle"])
    direction = replace(direction, deltas={site: torch.ones(3, *shape) for site, shape in shapes.items()})
    return host.inject(model, direction, [1.0]), 2


def substituted(pack, host, model, timesteps):
    """At two sites, with the uploads of a step's h on both sides of the guidance."""
    return host.substitute(model, recorded({"middle": (64, 2, 2), "output.3": (64, 4, 4)}, timesteps), 0.0, 1.0), 4


@pytest.mark.parametrize("edit", [injected, substituted])
def test_what_has_no_room_there_for_all_steps_comes_a_step_ahead(
    pack, card, core, host, module, model, monkeypatch, edit
):
    for name in ("prepared", "substituted"):
        monkeypatch.setattr(module(name), "BOUND", 0)
    schedule = sigmas(model, 5)
    timesteps = model.get_model_object("model_sampling").timestep(schedule[:-1]).float()
    edited, parts = edit(pack, host, model, timesteps)
    on = Denoiser(edited)
    with module("injection").sampling_of(model, schedule, edited.model_options):
        found = []
        for sigma, timestep in zip(schedule[:-1].tolist(), timesteps.tolist(), strict=True):
            card.answer = cycle((sigma, timestep))
            on(latent(), at(sigma))
            found.append(counts_of(card, f"{edit.__name__}, beyond the bound"))
    reads, waits, uploads, downloads = core
    assert found[1:-1] == [[reads, waits, uploads + parts, downloads + 1]] * 3  # both numbers at once
    assert found[-1] == [reads, waits, uploads, downloads + 1]  # nothing comes after


class Clearing:
    """A sampler's callback, which has the counts begin when the model has been called in a step."""

    def __init__(self, card, step: int = 0):
        self.card, self.step = card, step

    def __call__(self, step: dict) -> None:
        if step["i"] == self.step:
            counts_of(self.card, "all before")


def test_asyrps_step_waits_for_nothing(pack, card, core, host, model):
    direction, steps = random_direction(pack, model, (64, 2, 2)), 6
    options = {"model_options": options_of(model), "seed": 0}
    out = host.sample_asyrp(
        Denoiser(model), latent(), sigmas(model, steps).to("cuda"), options, Clearing(card, 1),
        noise_sampler=lambda sigma, following: torch.zeros_like(latent()), direction=direction, strength=1.0,
        edit_until=1.0, boost_from=0.5,
    )  # fmt: skip
    assert out.shape == (2, 4, 16, 16) and out.device.type == "cuda"
    counts = counts_of(card, "a call of the UNet in Asyrp's sampler", 2 * (steps - 1) - 1)
    assert counts[0] == 0
    assert all(own <= of_core for own, of_core in zip(counts, core, strict=True))


@pytest.mark.parametrize("method", ["invert_ddpm", "invert_ddim", "sample_inversion"])
def test_inversions_sampling_waits_for_nothing(card, core, host, module, model, method):
    steps, schedule, noises = 6, sigmas(model, 6), torch.zeros(6, 2, 4, 16, 16)
    given = {
        "invert_ddpm": {"noises": noises, "found": []},
        "invert_ddim": {"found": []},
        "sample_inversion": {"inversion": host.Inversion(noises[0], noises.__getitem__, schedule, eta=1.0)},
    }
    options = {"model_options": options_of(model)}
    sampler, on = getattr(module("inversion"), method), Denoiser(model, latent(), latent())
    sampler(on, latent(), schedule.to("cuda"), options, Clearing(card), **given[method])
    reads, waits, uploads, downloads = counts_of(card, f"a call of the UNet in {method}", steps - 1)
    assert (reads, waits, downloads) == (0, core[1], core[3])
    noise = 0 if method == "invert_ddim" else 1  # of each step its own
    assert uploads <= core[2] + noise
