"""The bottleneck, in ComfyUI's own UNet (SD 1.5's layout) and in the pixel DDPM, through real samplers."""

import importlib
from dataclasses import replace

import pytest
import torch
from models import conditioning, core_sample, sd15, sigmas

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def kinds(pack):
    """Both kinds of model: (model, positive, negative, latent, shape of h)."""
    load = importlib.import_module(f"{pack.__name__}.nodes.capture.load_ddpm")
    demo, _, empty, pixels = load.HSpaceLoadDDPM.execute(load.DEMO_MODEL).result
    sd_latent = {"samples": torch.zeros(1, 4, 32, 32)}
    return {
        "sd": (sd15(), conditioning(1), conditioning(2), sd_latent, (64, 4, 4)),
        "ddpm": (demo, empty, empty, pixels, (128, 8, 8)),
    }


@pytest.fixture(params=["sd", "ddpm"])
def kind(request, kinds):
    return kinds[request.param]


def direction(pack, host, model, shape, seed=0, scale=1.0, timesteps=(999.0, 500.0, 0.0), **words):
    Direction, Source = pack_types(pack)
    delta = torch.randn(len(timesteps), *shape, generator=torch.Generator().manual_seed(seed)) * scale
    words = {"source": Source(host.model_family(model), "0", "positive", (64, 64))} | words
    return Direction(
        deltas={"middle": delta},
        timesteps=torch.tensor(timesteps),
        name=f"d{seed}",
        method="random",
        unit="one",
        recipe="{}",
        **words,
    )


def pack_types(pack):
    directions = importlib.import_module(f"{pack.__name__}.directions")
    return directions.Direction, directions.Source


class Calls:
    """Counts the model's calls and notes how cond and uncond came."""

    def __init__(self):
        self.layouts = []

    def __call__(self, apply, args):
        self.layouts.append(args["cond_or_uncond"])
        return apply(args["input"], args["timestep"], **args["c"])


def run(model, kind, sampler="euler", steps=4, cfg=1.0, seed=0):
    _, positive, negative, latent, _ = kind
    return core_sample(model, sampler, sigmas(model, steps), positive, negative, latent, seed, cfg)


def test_h_is_recorded_once_per_model_call_with_its_timestep(kind, host):
    model, shape = kind[0], kind[4]
    recording, recorder = host.record(model, "positive")
    calls = Calls()
    recording.set_model_unet_function_wrapper(calls)
    run(recording, kind, steps=4)
    timesteps, h = recorder.trajectory()
    h = h["middle"]
    assert len(calls.layouts) == len(timesteps) == 4
    assert h.shape == (1, 4, *shape)
    sampling = model.get_model_object("model_sampling")
    assert timesteps.tolist() == sampling.timestep(sigmas(model, 4)[:-1]).tolist()


@pytest.mark.parametrize("branch", ["positive", "negative"])
def test_a_branch_is_recorded_the_same_in_one_call_and_in_two(kind, host, branch, monkeypatch):
    model = kind[0]
    recorded, layouts = [], []
    for free_memory in (1 << 60, 0):
        recording, recorder = host.record(model, branch)
        calls = Calls()
        recording.set_model_unet_function_wrapper(calls)
        monkeypatch.setattr(type(recording), "get_free_memory", lambda self, device, free=free_memory: free)
        run(recording, kind, cfg=3.0)
        recorded.append(recorder.trajectory()[1]["middle"])
        layouts.append({len(layout) for layout in calls.layouts})
    assert layouts == [{2}, {1}]
    # the same numbers but for float16 and the order of sums in a larger batch
    torch.testing.assert_close(recorded[0], recorded[1], rtol=2e-3, atol=2e-3)


def test_a_recording_without_a_model_call_of_its_branch_is_an_error(kind, host):
    recording, recorder = host.record(kind[0], "negative")
    run(recording, kind, cfg=1.0)
    with pytest.raises(ValueError, match="no model call for the negative branch"):
        recorder.trajectory()


def test_combined_prompts_are_refused_while_recording(kinds, host):
    model, positive, negative, latent, _ = kinds["sd"]
    recording, _ = host.record(model, "positive")
    with pytest.raises(ValueError, match="positive conditioning has 2 parts"):
        core_sample(recording, "euler", sigmas(model, 2), positive + conditioning(3), negative, latent, 0)


def test_the_extra_pass_of_a_guidance_is_not_recorded(kinds, host):
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    model = kinds["sd"][0]
    plain, recorder = host.record(model, "positive")
    run(plain, kinds["sd"], steps=1)
    guided, guided_recorder = host.record(PerturbedAttentionGuidance.execute(model, 3.0).result[0], "positive")
    run(guided, kinds["sd"], steps=1)
    assert torch.equal(recorder.trajectory()[1]["middle"], guided_recorder.trajectory()[1]["middle"])


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "dpmpp_2m_sde"])
def test_what_changes_nothing_is_bit_identical_to_no_node(kind, pack, host, sampler):
    model, shape = kind[0], kind[4]
    d = direction(pack, host, model, shape)
    plain = run(model, kind, sampler)
    for nothing in (
        host.inject(model, d, [0.0]),
        host.inject(model, d, [2.0], start_percent=0.5, end_percent=0.5),
        host.inject(model, d, [2.0], start_percent=0.7, end_percent=0.2),
        host.inject(model, d - d, [2.0]),
        host.inject(model, d, [2.0], mask=torch.zeros(1, 64, 64)),
    ):
        assert torch.equal(run(nothing, kind, sampler), plain)


def test_an_injection_leaves_no_residue_on_the_model(kind, pack, host):
    model, shape = kind[0], kind[4]
    before = run(model, kind)
    edited = run(host.inject(model, direction(pack, host, model, shape), [1.0]), kind)
    assert not torch.allclose(before, edited, atol=1e-3)
    assert torch.equal(run(model, kind), before)


def test_stacked_injections_do_not_depend_on_their_order(kind, pack, host):
    model, shape = kind[0], kind[4]
    a, b = (direction(pack, host, model, shape, seed, scale=0.5) for seed in (1, 2))
    together = run(host.inject(model, a + b, [1.5]), kind)
    ab = run(host.inject(host.inject(model, a, [1.5]), b, [1.5]), kind)
    ba = run(host.inject(host.inject(model, b, [1.5]), a, [1.5]), kind)
    # sums in another order: float32's rounding, grown through four steps of the UNet
    torch.testing.assert_close(ab, together, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ba, together, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("free_memory", [1 << 60, 0])
def test_one_branch_is_edited_alone(kinds, pack, host, free_memory, monkeypatch):
    kind = kinds["sd"]
    model, shape = kind[0], kind[4]
    d = direction(pack, host, model, shape)
    seen = {}

    def watch(args):
        for chunk, branch in zip(
            args["h"].chunk(len(args["transformer_options"]["cond_or_uncond"])),
            args["transformer_options"]["cond_or_uncond"],
            strict=True,
        ):
            seen.setdefault((watch.name, branch), chunk.clone())
        return {"h": args["h"]}

    monkeypatch.setattr(type(model), "get_free_memory", lambda self, device: free_memory)
    for name, patched in {
        "plain": model.clone(),
        "positive": host.inject(model, d, [1.0], apply_to="positive"),
    }.items():
        watch.name = name
        patched.set_model_middle_block_after_patch(watch)
        run(patched, kind, steps=1, cfg=3.0)
    assert torch.equal(seen["positive", 1], seen["plain", 1])
    torch.testing.assert_close(seen["positive", 0], seen["plain", 0] + d.deltas["middle"][:1])


def test_a_window_edits_its_steps_only(kind, pack, host):
    model, shape = kind[0], kind[4]
    touched = {}

    def watch(args):
        touched[float(args["timesteps"][0])] = args["h"].abs().max().item()
        return {"h": args["h"]}

    huge = direction(pack, host, model, shape, scale=1e4)
    patched = host.inject(model, huge, [1.0], start_percent=0.3, end_percent=0.7)
    patched.set_model_middle_block_after_patch(watch)
    run(patched, kind, steps=10)
    edited = [timestep for timestep, largest in touched.items() if largest > 1e3]
    assert edited == [timestep for timestep in touched if 0.3 <= 1 - timestep / 999 < 0.7]


def test_strengths_along_the_batch_equal_separate_runs(kind, pack, host):
    model, positive, negative, latent, shape = kind
    d = direction(pack, host, model, shape, scale=0.5)
    sampling = importlib.import_module(f"{pack.__name__}.nodes.host.sampling")
    import comfy.samplers

    def sample(strengths, seeds):
        edited = host.inject(model, d, strengths)
        return sampling.sample(
            edited,
            positive=positive,
            negative=negative,
            cfg=1.0,
            sampler=comfy.samplers.sampler_object("euler"),
            sigmas=sigmas(model, 4),
            latent=latent,
            seeds=seeds,
            on_step=lambda x0: None,
        )

    batch = sample([-1.0, 0.0, 2.0], [5, 5, 5])
    for row, strength in enumerate([-1.0, 0.0, 2.0]):
        torch.testing.assert_close(batch[row : row + 1], sample([strength], [5]), rtol=1e-3, atol=1e-3)


def test_h_of_another_size_gets_the_direction_resized_or_refused(kind, pack, host):
    model, positive, negative, latent, shape = kind
    d = direction(pack, host, model, (shape[0], shape[1] // 2, shape[2] // 2))
    assert not torch.allclose(run(host.inject(model, d, [1.0], fit="resize"), kind), run(model, kind), atol=1e-3)
    with pytest.raises(ValueError, match="set fit to resize"):
        run(host.inject(model, d, [1.0], fit="exact"), kind)


def test_the_channel_mean_is_the_same_at_every_place(pack):
    edits = importlib.import_module(f"{pack.__name__}.nodes.host.edits")
    delta = torch.randn(1, 3, 4, 4)
    fitted = edits.fit_to(delta, (9, 5), "channel mean", "d")
    torch.testing.assert_close(fitted, delta.mean((2, 3), keepdim=True))


def test_a_mask_keeps_the_edit_where_it_is_white(kind, pack, host):
    model, shape = kind[0], kind[4]
    seen = {}

    def watch(args):
        seen.setdefault(watch.name, args["h"].clone())
        return {"h": args["h"]}

    d = direction(pack, host, model, shape)
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1
    for name, patched in {"plain": model.clone(), "masked": host.inject(model, d, [1.0], mask=mask)}.items():
        watch.name = name
        patched.set_model_middle_block_after_patch(watch)
        run(patched, kind, steps=1)
    change = (seen["masked"] - seen["plain"]).abs().amax((0, 1))
    half = shape[2] // 2
    assert not change[:, :half].any()
    assert (change[:, half:] > 0).all()


def test_masks_must_be_one_or_one_for_each_picture(kinds, pack, host):
    kind = kinds["sd"]
    d = direction(pack, host, kind[0], kind[4])
    with pytest.raises(ValueError, match="got 3 masks for 1 pictures"):
        run(host.inject(kind[0], d, [1.0], mask=torch.ones(3, 64, 64)), kind)


def test_a_direction_of_another_family_is_refused(kinds, pack, host):
    demo_direction = direction(pack, host, kinds["ddpm"][0], kinds["ddpm"][4])
    with pytest.raises(ValueError, match="got DDPM, wanted SD15"):
        host.inject(kinds["sd"][0], demo_direction, [1.0])


def test_a_direction_of_another_site_is_refused(kind, pack, host, nodes_of_pack):
    model, shape = kind[0], kind[4]
    d = direction(pack, host, model, shape)
    d = replace(d, deltas={"output.99": d.deltas["middle"]})
    message = "needs a site that .* doesn't have: got output.99, wanted some of middle, output.*Find it again"
    with pytest.raises(ValueError, match=message):
        host.inject(model, d, [1.0])
    asyrp = nodes_of_pack.HSpaceAsyrpSampler.execute(d, 1.0, 1.0, 1.0, "both", "resize").result[0]
    import comfy.samplers

    _, positive, negative, latent, _ = kind
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    with pytest.raises(ValueError, match=message):
        guider.sample(torch.zeros_like(latent["samples"]), latent["samples"], asyrp, sigmas(model, 2), seed=0)


def test_wrong_channels_are_refused(kind, pack, host):
    model, shape = kind[0], kind[4]
    d = direction(pack, host, model, (shape[0] * 2, *shape[1:]))
    with pytest.raises(ValueError, match=f"got {shape[0] * 2} channels, wanted {shape[0]}"):
        run(host.inject(model, d, [1.0]), kind)


def test_a_unet_without_a_middle_block_is_refused(host):
    with pytest.raises(ValueError, match="has no place where ComfyUI lets it be edited"):
        host.record(sd15(transformer_depth_middle=-2), "positive")
