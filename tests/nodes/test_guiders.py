"""Which prompts are edited and recorded under each of ComfyUI's guiders: told by the tensors that the UNet gets."""

from functools import partial

import pytest
import torch
from models import conditioning, random_direction, sd15, sigmas

pytestmark = pytest.mark.comfy

LATENT = {"samples": torch.zeros(1, 4, 16, 16)}
SHAPE = (64, 2, 2)


def joined():
    """Prompts that ComfyUI puts into one batch."""
    return {name: conditioning(seed) for seed, name in enumerate(("positive", "negative", "third"))}


def separate():
    """Prompts of lengths that ComfyUI does not put into one batch."""
    lengths = {"positive": 7, "negative": 29, "third": 31}
    draw = torch.Generator().manual_seed(0)
    return {name: [[torch.randn(1, length, 16, generator=draw), {}]] for name, length in lengths.items()}


def guider(name: str, model, prompts: dict, other=None):
    """What core's node of that name makes."""
    from comfy_extras import nodes_custom_sampler as core
    from comfy_extras.nodes_perpneg import PerpNegGuider

    positive, third, negative = three = [prompts[each] for each in ("positive", "third", "negative")]
    nodes = {
        "CFGGuider": lambda: core.CFGGuider.execute(model, positive, negative, 3.0),
        "DualCFGGuider regular": lambda: core.DualCFGGuider.execute(model, *three, 3.0, 2.0, "regular"),
        "DualCFGGuider nested": lambda: core.DualCFGGuider.execute(model, *three, 3.0, 2.0, "nested"),
        "PerpNegGuider": lambda: PerpNegGuider.execute(model, positive, negative, third, 3.0, 1.0),
        "DualModelGuider": lambda: core.DualModelGuider.execute(model, positive, 3.0, other or model, negative),
        "BasicGuider": lambda: core.BasicGuider.execute(model, positive),
    }
    if name == "DualModelGuider" and not hasattr(core, name):
        pytest.skip("this ComfyUI is older than DualModelGuider")
    return nodes[name]().result[0]


PROMPTS = {
    "CFGGuider": {"positive", "negative"},
    "DualCFGGuider regular": {"positive", "negative", "third"},
    "DualCFGGuider nested": {"positive", "negative", "third"},
    "PerpNegGuider": {"positive", "negative", "third"},
    "DualModelGuider": {"positive", "negative"},
    "BasicGuider": {"positive"},
}
EDITED = {"both": {"positive", "negative", "third"}, "positive": {"positive"}, "negative": {"negative"}}


def sample(guider, sampler=None, steps=2):
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import RandomNoise, SamplerCustomAdvanced

    sampler = sampler or comfy.samplers.sampler_object("euler")
    noise = RandomNoise.execute(3).result[0]
    schedule = sigmas(guider.model_patcher, steps)
    return SamplerCustomAdvanced.execute(noise, guider, sampler, schedule, LATENT).result[0]["samples"]


class PromptProbe:
    """A patch of the bottleneck that keeps the h of each prompt, by what the UNet gets of it: "positive", say."""

    def __init__(self, prompts: dict):
        self.prompts, self.seen = prompts, []

    def __call__(self, args: dict) -> dict:
        count = len(args["transformer_options"]["cond_or_uncond"])
        for h, context in zip(args["h"].chunk(count), args["context"].chunk(count), strict=True):
            self.seen.append((self.name_of(context), h.clone(), args["timesteps"][:1]))
        return {"h": args["h"]}

    def name_of(self, context) -> str:
        (name,) = [name for name, ((tensor, _),) in self.prompts.items() if torch.equal(tensor, context)]
        return name


@pytest.fixture(scope="module")
def model():
    return sd15()


@pytest.fixture(params=[joined, separate])
def prompts(request):
    return request.param()


@pytest.mark.parametrize("apply_to", EDITED)
@pytest.mark.parametrize("name", PROMPTS)
def test_the_prompts_of_the_chosen_side_are_edited_and_no_others(pack, host, model, prompts, name, apply_to):
    direction = random_direction(pack, model, SHAPE)
    before, after, probed = PromptProbe(prompts), PromptProbe(prompts), model.clone()
    probed.set_model_middle_block_after_patch(before)
    probed = host.inject(probed, direction, [1.0], apply_to=apply_to)
    probed.set_model_middle_block_after_patch(after)
    sample(guider(name, probed, prompts, other=model))
    assert {prompt for prompt, _, _ in before.seen} == PROMPTS[name]
    assert len(before.seen) == 2 * len(PROMPTS[name])
    for (prompt, h, timestep), (_, edited, _) in zip(before.seen, after.seen, strict=True):
        wanted = h + direction.at("middle", timestep) if prompt in EDITED[apply_to] else h
        assert torch.equal(edited, wanted), prompt


@pytest.mark.parametrize("branch", ["positive", "negative"])
@pytest.mark.parametrize("name", [name for name in PROMPTS if name != "BasicGuider"])
def test_the_prompt_of_the_chosen_side_is_recorded(host, model, prompts, name, branch):
    recording, recorder = host.record(model, branch)
    probe = PromptProbe(prompts)
    recording.set_model_middle_block_after_patch(probe)
    sample(guider(name, recording, prompts, other=model))
    seen = [h.half() for prompt, h, _ in probe.seen if prompt == branch]
    assert torch.equal(recorder.trajectory()[1]["middle"], torch.stack(seen, 1))


@pytest.mark.parametrize("name", [name for name in PROMPTS if name not in ("BasicGuider", "DualModelGuider")])
@pytest.mark.parametrize("apply_to", EDITED)
def test_the_asyrp_sampler_edits_the_chosen_side_too(pack, nodes_of_pack, model, name, apply_to):
    direction, prompts = random_direction(pack, model, SHAPE), joined()
    decoded = []

    def decoder_input(h, skip, options):
        decoded.append(h.clone()) if options["block"] == ("output", 0) else None
        return h, skip

    probe, probed = PromptProbe(prompts), model.clone()
    probed.set_model_middle_block_after_patch(probe)
    probed.set_model_output_block_patch(decoder_input)
    asyrp = nodes_of_pack.HSpaceAsyrpSampler.execute(direction, 1.0, 1.0, 1.0, apply_to, "resize").result[0]
    sample(guider(name, probed, prompts), asyrp, steps=1)
    plain, edited = (each.chunk(len(PROMPTS[name])) for each in decoded)
    for (prompt, h, timestep), whole, decoder_half in zip(probe.seen, plain, edited, strict=True):
        assert torch.equal(whole, h)
        wanted = h + direction.at("middle", timestep) if prompt in EDITED[apply_to] else h
        assert torch.equal(decoder_half, wanted), prompt


def test_an_edit_on_the_negative_model_alone_says_that_comfyui_does_not_run_it(pack, host, model):
    edited = partial(host.inject, model, random_direction(pack, model, SHAPE), [1.0])
    prompts = joined()
    with pytest.raises(ValueError, match="An edit of model_negative does nothing"):
        sample(guider("DualModelGuider", model, prompts, other=edited()))
    with pytest.raises(ValueError, match="An edit of model_negative does nothing"):
        sample(guider("DualModelGuider", edited(), prompts, other=edited()))
    on_both = edited()
    shared = sample(guider("DualModelGuider", on_both, prompts, other=on_both))
    assert torch.equal(shared, sample(guider("DualModelGuider", on_both, prompts, other=model)))
    # one batch in place of two: sums in another order
    torch.testing.assert_close(shared, sample(guider("CFGGuider", on_both, prompts)), rtol=1e-3, atol=1e-3)


def test_a_negative_model_of_another_width_is_left_alone_by_an_edit_of_the_positive_side(pack, host, model):
    direction, prompts, wide = random_direction(pack, model, SHAPE), joined(), sd15(model_channels=64)
    for_side = lambda side: host.inject(model, direction, [1.0], apply_to=side)  # noqa: E731
    plain = sample(guider("DualModelGuider", model, prompts, other=wide))
    edited = sample(guider("DualModelGuider", for_side("positive"), prompts, other=wide))
    assert not torch.allclose(edited, plain, atol=1e-3)
    with pytest.raises(ValueError, match="got 64 channels, wanted 128"):
        sample(guider("DualModelGuider", for_side("negative"), prompts, other=wide))


def test_a_guider_that_names_its_prompts_otherwise_is_taken_by_their_place(pack, host, model):
    import comfy.samplers

    class OwnNames(comfy.samplers.CFGGuider):
        def predict_noise(self, x, timestep, model_options={}, seed=None):  # noqa: B006, as in ComfyUI
            conds = [self.conds["wanted"], self.conds["unwanted"]]
            return comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options)[0]

    direction, prompts = random_direction(pack, model, SHAPE), joined()
    before, after, probed = PromptProbe(prompts), PromptProbe(prompts), model.clone()
    probed.set_model_middle_block_after_patch(before)
    probed = host.inject(probed, direction, [1.0], apply_to="negative")
    probed.set_model_middle_block_after_patch(after)
    own = OwnNames(probed)
    own.inner_set_conds({"wanted": prompts["positive"], "unwanted": prompts["negative"]})
    sample(own, steps=1)
    pairs = zip(before.seen, after.seen, strict=True)
    changed = {prompt: not torch.equal(h, other) for (prompt, h, _), (_, other, _) in pairs}
    assert changed == {"positive": False, "negative": True}
