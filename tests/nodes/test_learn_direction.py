"""Objectives, and Learn Direction under them."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from demo_faces import folder_of
from differentiating import tiny_vae
from models import PRECISIONS, QUICK, conditioning, core_sample, in_precision, sigmas
from test_classifier import pictures, save_resnet
from tiny_clip import comfy_clip, comfy_vision, transformers_halves
from torch.nn.functional import normalize

pytestmark = pytest.mark.comfy

TEXTS = "a smiling face", "a face"


@pytest.fixture(scope="module")
def demo_classifier(faces):
    return faces.module("nodes.host.classifier").load_classifier("demo attributes (built in)")


@pytest.fixture(scope="module")
def objectives(faces):
    return faces.module("nodes.host.objective")


@pytest.fixture(scope="module")
def clip_objective(objectives):
    text, image = transformers_halves()
    return objectives.text_objective(comfy_clip(text.state_dict()), comfy_vision(image), *TEXTS)


@pytest.fixture(autouse=True)
def banks(tmp_path):
    with folder_of("hspace_banks", tmp_path / "banks") as folder:
        yield folder


@pytest.fixture(scope="module")
def demo(faces):
    return SimpleNamespace(
        model=faces.model, vae=faces.vae, prompts=(faces.empty, faces.empty), latent=faces.latent,
        sigmas=faces.sigmas(4), cfg=1.0,
    )  # fmt: skip


def stable_diffusion(precision: str):
    """A UNet of its layout and a VAE for it, tiny and random."""
    model = in_precision(precision)
    return SimpleNamespace(
        model=model, vae=tiny_vae(), prompts=(conditioning(1), conditioning(2)),
        latent={"samples": torch.zeros(1, 4, 8, 8)}, sigmas=sigmas(model, 3), cfg=7.0,
    )  # fmt: skip


@pytest.fixture(scope="module", params=QUICK)
def sd(request):
    return stable_diffusion(request.param)


@pytest.fixture(scope="module")
def plain_sd():
    return stable_diffusion("float32")


def learn(
    faces,
    kind,
    objective,
    *,
    rounds=2,
    span="constant",
    count=6,
    batch=3,
    keep=0.3,
    rate=0.02,
    sampler="euler_ancestral",
    branch="positive",
    sites="auto",
    **extra,
):
    """Its four outputs. In inference mode, as ComfyUI runs nodes."""
    import comfy.samplers

    with torch.inference_mode():
        return faces.node("HSpaceLearnDirection").execute(
            kind.model, *kind.prompts, comfy.samplers.ksampler(sampler, extra), kind.sigmas, kind.latent, kind.vae,
            objective, "smile", span, count, 50, rounds, rate, keep, batch, kind.cfg, branch, sites,
        ).result  # fmt: skip


def losses(file) -> list[float]:
    from safetensors.torch import load_file

    return load_file(file)["losses"].tolist()


def test_a_classifier_objective_sees_the_scores_in_the_order_asked_for(objectives, demo_classifier):
    objective = objectives.classifier_objective(demo_classifier, "age", ["smile"])
    images = pictures(n=3, height=64, width=64)
    scores = demo_classifier.scores(images)
    wanted = scores[:, [demo_classifier.columns.index(name) for name in ("age", "smile")]]
    torch.testing.assert_close(objective.features(images.movedim(-1, 1)), wanted)


def test_set_objective_gives_that_of_its_kind(faces, objectives, demo_classifier):
    text, image = transformers_halves()
    clip, vision = comfy_clip(text.state_dict()), comfy_vision(image)
    set_objective = faces.node("HSpaceSetObjective").execute
    asked = {"kind": "classifier", "classifier": demo_classifier, "column": " age ", "others": "smile, glasses"}
    (scored,) = set_objective(asked).result
    assert scored.recipe == objectives.classifier_objective(demo_classifier, "age", ["smile", "glasses"]).recipe
    texts = dict(zip(("text", "opposite"), TEXTS, strict=True))
    (described,) = set_objective({"kind": "text", "clip": clip, "clip_vision": vision, **texts}).result
    assert described.recipe == objectives.text_objective(clip, vision, *TEXTS).recipe


def test_a_hugging_face_classifier_sees_what_scores_say_up_to_rounding_and_has_a_gradient(faces, objectives, tmp_path):
    classifier = faces.module("nodes.host.classifier").load_hugging_face(save_resnet(tmp_path / "tiny"))
    objective = objectives.classifier_objective(classifier, classifier.columns[1], [])
    images = pictures(n=3)
    with faces.module("nodes.host.derivatives").derivatives():
        given = images.movedim(-1, 1).clone().requires_grad_()
        seen = objective.features(given)
        (gradient,) = torch.autograd.grad(seen.sum(), given)
    torch.testing.assert_close(seen.detach(), classifier.scores(images)[:, 1:2], atol=2e-3, rtol=0)  # bytes
    assert gradient.abs().max() > 0


def test_a_text_objective_sees_what_clip_vision_says_up_to_rounding(objectives):
    text, image = transformers_halves()
    vision = comfy_vision(image)
    objective = objectives.text_objective(comfy_clip(text.state_dict()), vision, *TEXTS)
    for size in ((64, 64), (80, 96)):
        images = pictures(n=3, height=size[0], width=size[1])
        wanted = normalize(vision.encode_image(images)["image_embeds"], dim=-1)
        torch.testing.assert_close(objective.features(images.movedim(-1, 1)), wanted, atol=5e-3, rtol=0)  # bytes


@pytest.mark.parametrize("kind", ["demo", *PRECISIONS])
def test_predictions_are_those_the_sampler_reports(faces, demo, objectives, clip_objective, kind):
    import comfy.samplers

    host, kind = faces.module("nodes.host"), demo if kind == "demo" else stable_diffusion(kind)
    baseline_pass, reported = host.BaselinePass(clip_objective, kind.vae), []
    faces.module("nodes.host.sampling").sample(
        host.visit_steps(kind.model, kind.sigmas, "positive", "middle", baseline_pass, learning=False),
        positive=kind.prompts[0], negative=kind.prompts[1], cfg=1.0,
        sampler=comfy.samplers.sampler_object("euler"), sigmas=kind.sigmas, latent=kind.latent,
        seeds=[3, 4], on_step=reported.append,
    )  # fmt: skip
    wanted = torch.stack([kind.model.model.process_latent_out(x0) for x0 in reported])
    torch.testing.assert_close(baseline_pass.baseline().predictions, wanted, atol=1e-4, rtol=1e-4)


def test_the_direction_does_what_the_objective_asks_for_on_other_seeds(faces, demo, objectives, demo_classifier):
    objective = objectives.classifier_objective(demo_classifier, "smile", ["age"])
    direction, *_ = learn(faces, demo, objective, rounds=6, count=16, batch=8)
    injected = faces.module("nodes.host").inject(demo.model, direction, [1.0])
    moved = []
    for model in (demo.model, injected):
        made = [
            core_sample(model, "euler_ancestral", demo.sigmas, *demo.prompts, demo.latent, seed)
            for seed in range(900, 912)
        ]
        images = (torch.cat(made).movedim(1, -1) + 1) / 2
        moved.append(demo_classifier.scores(images)[:, demo_classifier.columns.index("smile")])
    plain, edited = moved
    assert (edited - plain).mean() > 0.4 * plain.std()  # it aims at 1 and has had a few seconds
    assert direction.method == "learnt"
    assert direction.deltas["middle"].shape == (1, 128, 8, 8)


@pytest.mark.parametrize(("span", "rows"), [("constant", 1), ("each timestep", 4)])
def test_learning_goes_on_where_it_stopped_to_the_bit(faces, demo, objectives, demo_classifier, banks, span, rows):
    objective = objectives.classifier_objective(demo_classifier, "smile", [])
    learn(faces, demo, objective, rounds=2, span=span)
    (file,) = banks.rglob("learning.safetensors")
    halfway = losses(file)
    resumed = learn(faces, demo, objective, rounds=4, span=span)[0]
    assert len(resumed.deltas["middle"]) == rows
    assert losses(file)[:2] == halfway
    file.unlink()
    assert torch.equal(learn(faces, demo, objective, rounds=4, span=span)[0].deltas["middle"], resumed.deltas["middle"])


def test_what_is_interrupted_loses_one_round_at_most(faces, demo, objectives, demo_classifier, banks, monkeypatch):
    import comfy.model_management

    objective = objectives.classifier_objective(demo_classifier, "smile", [])
    whole = learn(faces, demo, objective, rounds=3)[0]
    (file,) = banks.rglob("learning.safetensors")
    file.unlink()
    write = faces.module("nodes.find.learn").write_whole

    def stop_after_two(tensors, path, metadata):
        write(tensors, path, metadata)
        comfy.model_management.interrupt_current_processing(len(tensors["losses"]) == 2)

    monkeypatch.setattr(faces.module("nodes.find.learn"), "write_whole", stop_after_two)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        learn(faces, demo, objective, rounds=3)
    assert len(losses(file)) == 2
    assert torch.equal(learn(faces, demo, objective, rounds=3)[0].deltas["middle"], whole.deltas["middle"])


def test_under_clip_and_guidance_the_loss_falls(faces, sd, clip_objective, banks):
    learn(faces, sd, clip_objective, rounds=8, count=3, keep=0.0, rate=0.02, sampler="euler", sites="middle")
    (file,) = banks.rglob("learning.safetensors")
    assert losses(file)[-1] < losses(file)[0] - 0.1  # of at most 2, and of random networks


def test_a_float16_vae_under_a_float32_unet_keeps_its_gradients(faces, plain_sd, clip_objective, banks):
    """The small weight stands for pictures of a million numbers: without a scale float16 loses every gradient."""
    import comfy.sd
    from safetensors.torch import load_file

    half = comfy.sd.VAE(sd=dict(plain_sd.vae.first_stage_model.state_dict()), dtype=torch.float16)
    faint = replace(clip_objective, loss=lambda *seen: 1e-10 * clip_objective.loss(*seen))
    small = {"vae": half, "latent": {"samples": torch.zeros(1, 4, 4, 4)}, "sigmas": sigmas(plain_sd.model, 1)}
    learn(faces, SimpleNamespace(**{**vars(plain_sd), **small}), faint, rounds=1, count=2, batch=2, keep=0.0)
    (file,) = banks.rglob("learning.safetensors")
    assert (load_file(file)["0 exp_avg"] != 0).double().mean() > 0.9


def test_a_sampler_that_evaluates_steps_twice_learns_once_from_each(faces, plain_sd, clip_objective, banks):
    from safetensors.torch import load_file

    learn(faces, plain_sd, clip_objective, rounds=2, count=3, span="each timestep", sampler="heun")
    (file,) = banks.rglob("learning.safetensors")
    assert [load_file(file)[f"{row} step"].item() for row in range(3)] == [2.0, 2.0, 2.0]


def test_nothing_is_left_on_the_model(faces, sd, clip_objective):
    run = lambda: core_sample(sd.model, "euler", sd.sigmas, *sd.prompts, sd.latent, 5, 7.0)  # noqa: E731
    before = run()
    learn(faces, sd, clip_objective, rounds=1, count=3)
    assert torch.equal(run(), before)
    assert not any(weight.grad is not None for weight in sd.model.model.parameters())


def test_plot_pictures_and_info_tell_what_was_learnt(faces, demo, objectives, demo_classifier, banks):
    objective = objectives.classifier_objective(demo_classifier, "smile", [])
    _, plot, sheet, info = learn(faces, demo, objective, rounds=2, rate=0.1)
    (file,) = banks.rglob("learning.safetensors")
    first, last = losses(file)
    assert info == f"{objective.name}: loss {first:.3g} at first, {last:.3g} after 2 rounds"
    assert torch.equal(plot, faces.module("nodes.ui").loss_curve([first, last]))
    without, with_it = sheet[0, 60:].tensor_split(2)  # below the title, a row each
    rows = min(len(without), len(with_it))
    assert (without[:rows] - with_it[-rows:]).abs().max() > 0.2


@pytest.mark.parametrize(
    ("column", "others", "message"),
    [("grin", [], '"grin"'), ("smile", ["smile"], "each once"), ("smile", ["age", "grin"], '"grin"')],
)
def test_columns_that_the_classifier_lacks_are_refused(objectives, demo_classifier, column, others, message):
    with pytest.raises(ValueError, match=message):
        objectives.classifier_objective(demo_classifier, column, others)


def test_two_texts_that_say_the_same_are_refused(objectives):
    text, image = transformers_halves()
    with pytest.raises(ValueError, match="same to CLIP"):
        objectives.text_objective(comfy_clip(text.state_dict()), comfy_vision(image), "a face", "a face")


def test_an_objective_that_sees_nan_is_refused(faces, demo, objectives, demo_classifier):
    broken = replace(
        objectives.classifier_objective(demo_classifier, "smile", []),
        _features=lambda pictures: pictures.mean((2, 3)) * torch.nan,
    )
    with pytest.raises(ValueError, match="sees NaN"):
        learn(faces, demo, broken)


def test_an_objective_without_a_gradient_is_refused(faces, demo, objectives, demo_classifier):
    blind = replace(
        objectives.classifier_objective(demo_classifier, "smile", []),
        _features=lambda pictures: pictures.detach().mean((2, 3)),
    )
    with pytest.raises(ValueError, match="no gradient"):
        learn(faces, demo, blind)


def test_an_objective_that_sees_no_difference_is_refused(faces, demo, objectives, demo_classifier):
    blind = replace(
        objectives.classifier_objective(demo_classifier, "smile", []),
        _features=lambda pictures: pictures.mean((2, 3)) * 0,
    )
    with pytest.raises(ValueError, match="the same in all 6 pictures"):
        learn(faces, demo, blind)


def test_a_sampler_that_leaves_the_schedule_is_refused(faces, demo, objectives, demo_classifier):
    objective = objectives.classifier_objective(demo_classifier, "smile", [])
    with pytest.raises(ValueError, match="steps of its own: got other sigmas than that of step 2 of 4"):
        learn(faces, demo, objective, batch=1, count=2, sampler="dpm_adaptive")
    with pytest.raises(ValueError, match="steps of its own: got other sigmas than that of step 1 of 4, step 2 of 4"):
        learn(faces, demo, objective, batch=1, count=2, sampler="euler", s_churn=1.0)


def test_learning_from_a_branch_that_cfg_1_skips_is_refused(faces, demo, objectives, demo_classifier):
    objective = objectives.classifier_objective(demo_classifier, "smile", [])
    with pytest.raises(ValueError, match="negative prompt is left out at step 1 of 4, .* set branch to positive"):
        learn(faces, demo, objective, branch="negative")


def test_learning_that_was_damaged_on_disk_is_named(faces, demo, objectives, demo_classifier, banks):
    objective = objectives.classifier_objective(demo_classifier, "smile", [])
    learn(faces, demo, objective, rounds=1)
    (file,) = banks.rglob("learning.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="delete learning.safetensors"):
        learn(faces, demo, objective, rounds=2)


def test_fewer_rounds_than_were_learnt_are_refused_and_nothing_is_lost(faces, demo, objectives, demo_classifier, banks):
    objective = objectives.classifier_objective(demo_classifier, "smile", [])
    learn(faces, demo, objective, rounds=2)
    (file,) = banks.rglob("learning.safetensors")
    before = file.read_bytes()
    with pytest.raises(ValueError, match="got rounds 1, wanted 2 or more"):
        learn(faces, demo, objective, rounds=1)
    assert file.read_bytes() == before
