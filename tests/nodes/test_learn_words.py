"""A slider learnt from words: its loss falls, it goes on where it stopped, and leaves nothing behind."""

import pytest
import torch
from demo_faces import folder_of
from models import QUICK, conditioning, core_sample, in_precision, sigmas
from tiny_transformers import LAYOUTS, latent_of, prompt, transformer

pytestmark = pytest.mark.comfy

SITES = {
    "SD15": ("middle", "output.3"),
    "Flux": ("double.0", "double.0.text", "single.1"),
    "HunyuanVideo": ("double.1.text", "single.0"),
}
DIFFERENTIABLE = ("Flux", "Flux2", "Chroma", "HunyuanVideo")


@pytest.fixture(scope="module", params=QUICK)
def precision(request):
    return request.param


@pytest.fixture(scope="module")
def sd(precision):
    return in_precision(precision)


@pytest.fixture(scope="module")
def models(sd):
    """By family."""
    return {"SD15": sd, **{family: transformer(family) for family in ("Flux", "HunyuanVideo")}}


@pytest.fixture
def teach(faces, models, tmp_path):
    """Rounds on a small random model: what is learnt."""
    trainer = faces.module("nodes.host.slider_trainer")

    def run(rounds: int, *, family="SD15", state=None, cfg: float = 3.0, prompts=(1, 3, 4), frames: int = 1):
        model, encode = models[family], conditioning if family == "SD15" else prompt
        latent = {"samples": torch.zeros(1, 4, 16, 16)} if family == "SD15" else latent_of(model, frames=frames)
        encoded = tuple(map(encode, prompts))
        run = dict(sampler=faces.euler, sigmas=sigmas(model, 2), latent=latent)
        with torch.inference_mode():
            each = trainer.SliderTrainer(
                model, lambda number: encoded, encode(2), run, cfg, 0, 2, rounds, SITES[family]
            )  # fmt: skip
            learnt = each.started(state or {}, tmp_path / "learning.safetensors")
            while len(learnt.losses) < rounds:
                each.train_round(learnt)
        return learnt

    return run


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_it_does_to_the_pictures_it_learnt_from_what_the_words_do(teach, cfg, precision):
    """In others too where a model's pictures have something in common, unlike a random one's: docs/prompted.md."""
    learnt = teach(1, cfg=cfg)
    rounding = 0.2 if precision == "bfloat16" else 1e-4  # of predictions, to what words change in them
    assert learnt.losses == [pytest.approx(1, abs=rounding)]
    again = teach(1, cfg=cfg, state=learnt.state_dict() | {"losses": torch.empty(0)})
    assert again.losses[0] < 0.8  # five iterations of least squares go so far in a random network


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_in_a_transformer_it_does_what_the_words_do_and_a_random_one_of_its_norm_does_not(teach, cfg):
    learnt = teach(1, family="Flux", cfg=cfg)
    assert learnt.losses == [pytest.approx(1, abs=1e-4)]
    draw = torch.Generator().manual_seed(0)
    noise = [torch.randn(row.shape, generator=draw) for row in learnt.rows]
    random = torch.stack([row.norm() * each / each.norm() for row, each in zip(learnt.rows, noise, strict=True)])
    losses = [
        teach(1, family="Flux", cfg=cfg, state={"learnt": rows, "losses": torch.empty(0)}).losses[0]
        for rows in (torch.stack(learnt.rows), random)
    ]
    assert losses[0] < 0.8 < 1 < losses[1]


@pytest.mark.parametrize("frames", [1, 5])
def test_in_a_model_of_clips_it_learns_of_pictures_and_of_clips_what_is_kept_as_well(teach, frames):
    given = dict(family="HunyuanVideo", prompts=(1, 3, 4, 5, 6), frames=frames)
    learnt = teach(1, **given)
    again = teach(1, **given, state=learnt.state_dict() | {"losses": torch.empty(0)})
    assert again.losses[0] < 0.9


@pytest.mark.parametrize("family", ["SD15", "Flux"])
def test_interrupted_it_goes_on_to_the_same_bytes(teach, family):
    half, whole = teach(1, family=family).state_dict(), teach(2, family=family).state_dict()
    assert torch.equal(teach(2, family=family, state=half).state_dict()["learnt"], whole["learnt"])


def test_the_opposite_words_teach_the_opposite_direction(teach):
    forth, back = (torch.stack(teach(1, prompts=(1, *sides)).rows) for sides in ((3, 4), (4, 3)))
    assert torch.cosine_similarity(forth.flatten(), back.flatten(), dim=0) < -0.5  # pictures have other noise


def test_what_is_kept_changes_what_is_learnt_once_pictures_of_a_pair_differ(teach):
    plain, kept = (torch.stack(teach(1, prompts=(1, 3, 4, *sides)).rows) for sides in ((5, 5), (5, 6)))
    assert plain.isfinite().all()  # nothing to take back of what words do not change
    assert torch.equal(plain[0], kept[0])
    assert not torch.allclose(plain[1], kept[1], rtol=1e-3)


def test_words_that_make_no_difference_are_refused(teach):
    with pytest.raises(ValueError, match="make no difference"):
        teach(1, prompts=(1, 3, 3))


@pytest.mark.parametrize("learnt", [torch.zeros(3, 5), torch.full((3, 3072), torch.nan), torch.zeros(2, 3072)])
def test_what_was_learnt_by_another_is_refused(teach, learnt):
    with pytest.raises(ValueError, match="got other numbers than.*delete learning.safetensors"):
        teach(1, state={"learnt": learnt, "losses": torch.zeros(1)})


@pytest.mark.parametrize(("wrong", "said"), [(torch.nan, "NaN or infinity"), (0.0, "make no difference")])
def test_predictions_that_teach_nothing_are_refused(faces, wrong, said):
    lesson = faces.module("nodes.host.slider_lesson")
    with pytest.raises(ValueError, match=said):
        lesson.require_difference(torch.full((2, 4, 8, 8), wrong))


def test_what_was_learnt_is_kept_as_far_as_it_holds_in_other_pictures(faces):
    best = faces.module("nodes.host.slider_lesson").best_scale
    wanted = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert best(2 * wanted, wanted) == pytest.approx(0.5)
    assert best(0.5 * wanted, wanted) == 1  # more is learnt, not stretched
    assert best(-wanted, wanted) == 0
    assert best(0 * wanted, wanted) == 1


def test_nothing_is_left_on_the_model(teach, sd):
    draw = lambda: core_sample(  # noqa: E731
        sd, "euler", sigmas(sd, 3), conditioning(1), conditioning(2), {"samples": torch.zeros(1, 4, 16, 16)}, 5, 7.0
    )
    before = draw()
    teach(1)
    assert torch.equal(draw(), before)


def test_nothing_is_left_on_a_transformer(teach, models):
    flux = models["Flux"]
    draw = lambda: core_sample(flux, "euler", sigmas(flux, 3), prompt(1), prompt(2), latent_of(flux), 5, 2.0)  # noqa: E731
    before, options = draw(), dict(flux.model_options["transformer_options"])
    teach(1, family="Flux")
    assert torch.equal(draw(), before)
    assert flux.model_options["transformer_options"] == options and not flux.wrappers


def test_the_node_learns_and_measures_and_does_not_learn_again(faces, words, tmp_path):
    def learn(rounds: int, scenes: str = "portrait of a {smiling|frowning} person", keep: str = ""):
        with folder_of("hspace_banks", tmp_path), torch.inference_mode():
            return faces.node("HSpaceLearnFromWords").execute(
                words.model, words.clip, faces.euler, sigmas(words.model, 2), words.latent, scenes, keep, "", "smile",
                rounds, 0, 2, 3.0,
            ).result  # fmt: skip

    direction, _, info = learn(1, keep="{glasses|no glasses}")
    assert tuple(direction.deltas) == ("middle", "output.3", "output.6")
    assert direction.usable is not None
    assert "loss" in info
    assert learn(1, keep="{glasses|no glasses}")[0] == direction
    with pytest.raises(ValueError, match="Can't read the scene"):
        learn(1, keep="glasses")


def test_the_node_learns_in_a_transformer(faces, words, tmp_path):
    tokens, pooled = words.encode("a person")[0]
    model = transformer("Flux", context_in_dim=tokens.shape[-1], vec_in_dim=pooled["pooled_output"].shape[-1])
    with folder_of("hspace_banks", tmp_path), torch.inference_mode():
        direction, _, info = faces.node("HSpaceLearnFromWords").execute(
            model, words.clip, faces.euler, sigmas(model, 2), latent_of(model), "a {smiling|frowning} person", "", "",
            "smile", 1, 0, 2, 1.0, "double.1.text, double.0",
        ).result  # fmt: skip
    assert {site: delta.shape[1:] for site, delta in direction.deltas.items()} == {
        "double.0": (64, 3, 5), "double.1.text": (64, 1, 1)
    }  # fmt: skip
    assert torch.equal(direction.timesteps, 1000 * sigmas(model, 2)[:2])
    assert "loss" in info


@pytest.mark.parametrize("family", [each for each in LAYOUTS if each not in DIFFERENTIABLE])
def test_transformers_without_derivatives_are_refused_by_name(faces, family):
    model = transformer(family)
    with pytest.raises(ValueError, match=f"got {family}, wanted a UNet or one of Chroma, Flux, HunyuanVideo"):
        faces.node("HSpaceLearnFromWords").execute(
            model, None, faces.euler, sigmas(model, 2), latent_of(model), "a {b|c}", "", "", "d", 1, 0, 2, 1.0
        )
