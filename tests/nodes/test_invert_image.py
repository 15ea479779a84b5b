"""Invert Image: pictures come back, by other mathematics too, and can be edited."""

import gc
import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from demo_faces import DemoFaces, folder_of
from models import sigmas
from safetensors import safe_open
from torch._subclasses import FakeTensor

pytestmark = pytest.mark.comfy

FRIENDLY, DDIM = "edit-friendly DDPM", "DDIM"


@pytest.fixture(scope="module")
def faces(pack):
    return DemoFaces(pack)


@pytest.fixture(scope="module")
def renders():
    """Two faces that no model made, `(2, 3, 64, 64)` in -1..1."""
    path = Path(__file__).parents[2] / "demo" / "faces.py"
    spec = importlib.util.spec_from_file_location("demo_renderer", path)
    renderer = importlib.util.module_from_spec(spec)
    sys.modules["demo_renderer"] = renderer
    spec.loader.exec_module(renderer)
    return torch.from_numpy(renderer.render_batch(2, seed=7)[0]).float().movedim(-1, 1) / 127.5 - 1


@pytest.fixture
def module(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.capture.invert_image")


@pytest.fixture
def invert(module, faces, tmp_path):
    node = module.HSpaceInvertImage

    def invert(
        latents, steps=10, method=FRIENDLY, skip=0, model=None, prompts=None, cfg=1.0, batch_size=8, name="pictures",
        **changed,
    ):  # fmt: skip
        model = model or faces.model
        positive, negative = prompts or (faces.empty, faces.empty)
        schedule = changed.pop("sigmas", sigmas(model, steps))
        with folder_of("hspace_banks", tmp_path):
            return node.execute(
                model, positive, negative, {"samples": latents, **changed}, schedule, method, skip, 3, name,
                batch_size, cfg, "positive",
            ).result  # fmt: skip

    return invert


def step_noises(sampler, steps: int) -> torch.Tensor:
    """`(steps, n, ...)`."""
    return torch.stack([sampler.extra_options["inversion"].noise(step) for step in range(steps)])


def sampled(model, found, prompts, cfg=1.0):
    """What SamplerCustomAdvanced makes of an inversion's outputs."""
    from comfy_extras.nodes_custom_sampler import CFGGuider, SamplerCustomAdvanced

    noise, latent, sampler, schedule = found[:4]
    guider = CFGGuider.execute(model, *prompts, cfg).result[0]
    return SamplerCustomAdvanced.execute(noise, guider, sampler, schedule, latent).result[0]["samples"]


@pytest.mark.parametrize("steps", [10, 25, 50])
def test_an_edit_friendly_inversion_gives_the_pictures_back(invert, faces, renders, steps):
    back = sampled(faces.model, invert(renders, steps), (faces.empty, faces.empty))
    assert (back - renders).abs().max() < 1e-4  # the bound, in -1..1


def test_ddim_comes_closer_with_more_steps(invert, faces, renders):
    errors = []
    for steps in (5, 10, 25):
        back = sampled(faces.model, invert(renders, steps, DDIM), (faces.empty, faces.empty))
        errors.append(float((back - renders).square().mean().sqrt()))
    print(errors)
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("cfg", [1.0, 7.0])
@pytest.mark.parametrize("skip", [0, 4])
def test_it_holds_under_words_with_guidance_and_skipped_steps(invert, words, renders, cfg, skip):
    """Faces that the model has not made, as its VAE encodes them."""
    prompts = words.encode("portrait of a person"), words.encode("")
    latents = words.vae.encode((renders.movedim(1, -1) + 1) / 2)
    found = invert(latents, model=words.model, prompts=prompts, cfg=cfg, skip=skip)
    assert len(found[3]) == 11 - skip
    assert (sampled(words.model, found, prompts, cfg) - latents).abs().max() < 1e-4


def test_the_noises_are_those_of_the_papers_equations(invert, faces, renders):
    """x_{t-1} = mu_t(x_t) + s_t z_t in alpha-bar and float64, eta 1, with nothing of ComfyUI but the network."""
    noise, latent, sampler, schedule, *_ = invert(renders, 10)
    noises = step_noises(sampler, 10).double()
    unet = faces.model.model.diffusion_model
    sampling = faces.model.get_model_object("model_sampling")
    alphas = 1 / (1 + schedule.double() ** 2)  # alpha-bar of each level
    start = (1 + schedule[0].double() ** 2).sqrt()  # ComfyUI's scaling of noise at the highest sigma
    x = alphas[0].sqrt() * (renders.double() + start * noise.generate_noise(latent).double())
    for i in range(len(schedule) - 1):
        timestep = sampling.timestep(schedule[i : i + 1]).float().expand(len(x))
        velocity = unet(x.float(), timestep).double()
        a, a_next = alphas[i], alphas[i + 1]
        x0 = a.sqrt() * x - (1 - a).sqrt() * velocity
        eps = (1 - a).sqrt() * x + a.sqrt() * velocity
        s = ((1 - a_next) / (1 - a)).sqrt() * (1 - a / a_next).sqrt()  # methods.md, eta 1
        x = a_next.sqrt() * x0 + (1 - a_next - s**2).clamp(min=0).sqrt() * eps + a_next.sqrt() * noises[i]
    assert (x - renders).abs().max() < 1e-4


def test_a_picture_does_not_depend_on_its_batch(invert, renders):
    together = invert(renders, 5)
    apart = invert(renders, 5, batch_size=1)
    ours, theirs = (step_noises(found[2], 5) for found in (together, apart))
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)  # a batch's rows differ in the last bits


def test_an_edit_at_strength_0_is_the_picture_and_at_2_is_not(pack, invert, faces, renders):
    host = importlib.import_module(f"{pack.__name__}.nodes.host")
    found, direction = invert(renders), faces.direction("random", 0)
    plain = sampled(faces.model, found, (faces.empty, faces.empty))
    still = sampled(host.inject(faces.model, direction, [0.0]), found, (faces.empty, faces.empty))
    moved = sampled(host.inject(faces.model, direction, [2.0]), found, (faces.empty, faces.empty))
    assert torch.equal(still, plain)
    assert (moved - plain).abs().max() > 0.1


@pytest.mark.parametrize("method", [FRIENDLY, DDIM])
def test_the_bank_holds_what_the_replay_sees(pack, invert, faces, renders, method):
    host = importlib.import_module(f"{pack.__name__}.nodes.host")
    found = invert(renders, 5, method)
    bank = found[4]
    watched, recorder = host.record(faces.model, "positive")
    sampled(watched, found, (faces.empty, faces.empty))
    timesteps, h = recorder.trajectory()
    h = h["middle"]
    assert torch.equal(bank.timesteps, timesteps)
    assert torch.equal(torch.stack([bank.h("middle", step) for step in range(5)], 1), h.float())
    assert torch.equal(bank.latents(), renders)
    assert bank.seeds == (3, 4)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


@pytest.mark.parametrize(("method", "solver"), [(FRIENDLY, "invert_ddpm"), (DDIM, "invert_ddim")])
def test_cancelled_it_keeps_whole_batches_and_goes_on_to_the_same_bytes(
    invert, module, tmp_path, monkeypatch, method, solver
):
    import comfy.model_management

    pictures, calls = torch.randn(7, 3, 64, 64, generator=torch.Generator().manual_seed(1)), []
    options = dict(method=method, steps=3, batch_size=2)
    whole = invert(pictures, **options, name="whole")
    solve = getattr(module, solver)

    def solved(*args, **words):
        calls.append(1)
        if len(calls) == 3:
            comfy.model_management.interrupt_current_processing()
            comfy.model_management.throw_exception_if_processing_interrupted()  # as ComfyUI's progress bar does
        return solve(*args, **words)

    monkeypatch.setattr(module, solver, solved)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        invert(pictures, **options, name="stopped")
    (folder,) = tmp_path.glob("stopped-*")
    first = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    assert len(first) == 2
    continued = invert(pictures, **options, name="stopped")
    assert len(calls) == 3 + 2
    assert first.items() <= {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}.items()
    assert contents(folder) == contents(next(tmp_path.glob("whole-*")))
    again = invert(pictures, **options, name="stopped")
    assert len(calls) == 3 + 2
    for found in (continued, again):
        assert torch.equal(found[0].generate_noise(found[1]), whole[0].generate_noise(whole[1]))
        assert torch.equal(step_noises(found[2], 3), step_noises(whole[2], 3))
        assert found[5] == whole[5]


def live_bytes() -> int:
    """Of all tensors that Python knows, but for the pretended ones that torch.compile leaves."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    storages = (tensor.untyped_storage() for tensor in tensors if not isinstance(tensor, FakeTensor))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@pytest.mark.parametrize("method", [FRIENDLY, DDIM])
def test_memory_does_not_grow_with_the_pictures_but_for_themselves(invert, module, monkeypatch, method):
    """At 6 steps a picture's h and noises are eight times as large as itself: only the first noise stays."""
    recorded, seen = module.record, []
    monkeypatch.setattr(module, "record", lambda *args: seen.append(live_bytes()) or recorded(*args))
    peaks = []
    for count in (2, 2, 8):  # the first makes what the model keeps
        pictures = torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(count))
        seen.clear()
        before = live_bytes()
        found = invert(pictures, steps=6, method=method, batch_size=2, name=str(len(peaks)))
        peaks.append(max(*seen, live_bytes()) - before)
        del found
    assert peaks[2] - peaks[1] < 6 * 1.1 * pictures[0].nbytes


def test_a_bank_without_the_noises_is_said(pack, invert, faces, renders):
    found = invert(renders, 3)
    (shard,) = found[4].shards
    directions = importlib.import_module(f"{pack.__name__}.directions")
    with safe_open(shard.path, "pt") as file:
        h, timesteps = file.get_tensor("h.middle").clone(), file.get_tensor("timesteps").clone()
    directions.write_shard(
        shard.path.parent, shard.seeds, timesteps=timesteps, h={"middle": h}, latents=renders, source=shard.source,
        recipe=shard.recipe,
    )  # fmt: skip
    with pytest.raises(ValueError, match="does not hold the noises of an inversion: got {}.*Delete its folder"):
        invert(renders, 3)
    shard.path.unlink()
    with pytest.raises(ValueError, match="A part of the bank is gone"):
        sampled(faces.model, found, (faces.empty, faces.empty))


def test_the_outputs_belong_together(invert, faces, renders):
    from comfy_extras.nodes_custom_sampler import RandomNoise

    prompts = (faces.empty, faces.empty)
    found = list(invert(renders, 5))
    with pytest.raises(ValueError, match="not those of the inversion"):
        sampled(faces.model, [*found[:3], sigmas(faces.model, 6)], prompts)
    with pytest.raises(ValueError, match="not the noise of the inversion"):
        sampled(faces.model, [RandomNoise.execute(5).result[0], *found[1:]], prompts)
    with pytest.raises(ValueError, match="for other pictures"):
        sampled(faces.model, [found[0], {"samples": renders[:1]}, *found[2:]], prompts)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"latents": torch.zeros(1, 4, 64, 64)}, "not this model's"),
        ({"sigmas": torch.tensor([10.0, 1.0, 0.5])}, "fall to 0"),
        ({"skip": 9}, "Lower skip"),
        ({"noise_mask": torch.ones(1, 64, 64)}, "noise mask"),
    ],
)
def test_bad_input_says_what_is_wanted(invert, renders, changed, message):
    with pytest.raises(ValueError, match=message):
        invert(**({"latents": renders} | changed))
