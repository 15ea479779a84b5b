"""What is prepared for a sampling: on a card nothing waits for it, and it is what each call would work out."""

import importlib
from functools import partial

import pytest
import torch
from models import random_direction, sd15, sigmas
from pretended_card import PretendedCard

pytestmark = pytest.mark.comfy

SHAPE = (64, 4, 4)
MASK = torch.linspace(0, 1, 64).reshape(1, 8, 8)


@pytest.fixture(scope="module")
def model():
    return sd15()


@pytest.fixture(scope="module")
def host(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.host")


@pytest.fixture(scope="module")
def prepared(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.host.prepared")


@pytest.fixture(scope="module")
def injection(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.host.injection")


def halved(percent: float) -> float:
    return percent / 2


SETTINGS = {
    "one": [{}],
    "a mask": [{"mask": MASK}],
    "a curve": [{"curve": halved}],
    "a window": [{"start_percent": 0.2, "end_percent": 0.6}],
    "the positive side": [{"apply_to": "positive"}],
    "a strength for each": [{"strengths": (1.0, -2.0)}],
    "another size": [{"shape": (64, 8, 8)}],
    "a stack of eight": [{}] * 8,
    "one side for a while": [{}, {"apply_to": "positive", "start_percent": 0.2, "end_percent": 0.6}],
    "a strength for each for a while": [{}, {"strengths": (1.0, 2.0), "start_percent": 0.2, "end_percent": 0.6}],
    "a stack of all": [
        {"mask": MASK}, {"curve": halved}, {"start_percent": 0.2, "end_percent": 0.6}, {"apply_to": "negative"},
    ],
}  # fmt: skip


@pytest.fixture(params=SETTINGS)
def edited(request, pack, host, model):
    """A model with these edits."""
    edited = model
    for seed, each in enumerate(SETTINGS[request.param]):
        each = {"strengths": (1.0,), "shape": SHAPE} | each
        found = random_direction(pack, model, each.pop("shape"), seed=seed)
        edited = host.inject(edited, found, each.pop("strengths"), **each)
    return edited


def hook_of(edited):
    """The one function that ComfyUI calls after the middle block."""
    (hook,) = edited.model_options["transformer_options"]["patches"]["middle_block_after_patch"]
    return hook


def called(hook, h, sigma, timestep):
    """h of two prompts and two samples after the hook."""
    options = {"sigmas": sigma.expand(4), "cond_or_uncond": [0, 1]}
    return hook({"h": h, "x": h, "timesteps": timestep.expand(4), "transformer_options": options})["h"]


def test_on_a_card_a_call_reads_nothing_back_and_copies_nothing_to_it(edited, model, injection):
    schedule, hook = sigmas(model, 4), hook_of(edited)
    with injection.sampling_of(model, schedule, edited.model_options), PretendedCard() as card:
        h, sigma, timestep = (torch.empty(size, device="cuda") for size in ((4, *SHAPE), 1, 1))
        for _ in range(2):
            card.clear()
            out = called(hook, h, sigma, timestep)
        assert out.shape == h.shape and out.device.type == "cuda"
        assert (card.reads, card.uploads, card.downloads) == (0, 0, 0)


def test_the_table_of_a_card_adds_what_a_call_works_out(edited, model, prepared):
    """On the schedule to the bit, between its sigmas to float error, but for curves, which are followed in pieces."""
    sampling = model.get_model_object("model_sampling")
    injections = hook_of(edited).patches["middle"].injections
    at = importlib.import_module(prepared.__package__ + ".edits").Layout(
        ("positive", "negative"), 2, *SHAPE, torch.float32, torch.device("cpu")
    )
    schedule = prepared.Schedule.of(sampling, sigmas(model, 4), injections)
    table = prepared.Table.of(injections, at, "middle", schedule)
    h = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    worked_out = partial(prepared.total, injections, at, "middle")
    curved = any(each.curve for each in injections)
    for sigma in (*sigmas(model, 4)[:-1], *sigmas(model, 11)[:-1]):
        timestep = sampling.timestep(sigma.reshape(1)).float()
        added = worked_out(float(sigma), float(timestep))
        wanted = h if added is None else prepared.plus(h, added, at)
        found = table(h, sigma.reshape(1), timestep, at)
        if sigma in sigmas(model, 4):
            assert torch.equal(found, wanted)
        else:
            assert torch.allclose(found, wanted, atol=2e-3 if curved else 1e-5)


def test_eight_edits_add_what_they_add_one_after_another(pack, host, model, injection):
    found = [random_direction(pack, model, SHAPE, seed=seed) for seed in range(8)]
    stacked = model
    for each in found:
        stacked = host.inject(stacked, each, [0.5])
    h, sigma, timestep = torch.randn(4, *SHAPE), sigmas(model, 4)[1], torch.tensor(700.0)
    one_by_one = h
    for each in found:
        one_by_one = called(hook_of(host.inject(model, each, [0.5])), one_by_one, sigma, timestep)
    assert torch.allclose(called(hook_of(stacked), h, sigma, timestep), one_by_one, atol=1e-5)


def test_an_edit_of_another_pack_keeps_its_place_between_two(pack, host, model):
    first, second = (random_direction(pack, model, SHAPE, seed=seed) for seed in range(2))
    between = host.inject(model, first, [1.0])
    between.set_model_middle_block_after_patch(lambda args: {"h": args["h"] * 2})
    both = host.inject(between, second, [1.0])
    hooks = both.model_options["transformer_options"]["patches"]["middle_block_after_patch"]
    assert len(hooks) == 3
    assert len(model.model_options["transformer_options"].get("patches", {})) == 0


def test_a_stack_leaves_the_model_it_came_from_as_it_is(pack, host, model):
    one = host.inject(model, random_direction(pack, model, SHAPE), [1.0])
    before = hook_of(one)
    host.inject(one, random_direction(pack, model, SHAPE, seed=1), [1.0])
    assert hook_of(one) is before and len(before.patches["middle"].injections) == 1


def test_what_does_not_fit_into_its_bound_is_what_a_call_works_out(edited, model, prepared, monkeypatch):
    monkeypatch.setattr(prepared, "BOUND", 0)
    injections, schedule = hook_of(edited).patches["middle"].injections, sigmas(model, 4)
    edits, moments = (importlib.import_module(f"{prepared.__package__}.{name}") for name in ("edits", "moments"))
    at = edits.Layout(("positive", "negative"), 2, *SHAPE, torch.float32, torch.device("cpu"))
    sampling = model.get_model_object("model_sampling")
    assert prepared.Table.of(injections, at, "middle", prepared.Schedule.of(sampling, schedule, injections)) is None
    timesteps = sampling.timestep(schedule[:-1]).float()
    pairs = list(zip(schedule[:-1].tolist(), timesteps.tolist(), strict=True))
    worked_out = partial(prepared.total, injections, at, "middle")
    ahead = moments.Ahead(worked_out, dict(zip(schedule[:-2].tolist(), pairs[1:], strict=True)))
    one_ahead, h = prepared.Prepared(at, None, ahead), torch.randn(4, *SHAPE)
    for sigma, timestep in pairs:
        added = worked_out(sigma, timestep)
        wanted = h if added is None else prepared.plus(h, added, at)
        assert torch.equal(one_ahead(h, moments.Moment(torch.tensor([sigma]), torch.tensor([timestep]))), wanted)
        ahead.look(sigma)


def test_each_is_made_once_and_two_are_kept_where_a_sampler_leaves_its_schedule(prepared):
    made = []
    ahead = importlib.import_module(prepared.__package__ + ".moments").Ahead(
        lambda sigma, timestep: made.append(sigma) or (sigma, timestep), {3.0: (2.0, 20.0), 2.0: (1.0, 10.0)}
    )
    for sigma in (3.0, 2.5, 2.0, 2.0, 1.0):
        assert ahead.at(sigma, 10 * sigma) == (sigma, 10 * sigma)
        ahead.look(sigma)
        assert len(ahead.made) <= 2
    assert made == [3.0, 2.0, 2.5, 1.0]
