"""Sites in the blocks of transformers, on tiny models of each family in ComfyUI's own classes."""

import math
from dataclasses import replace

import pytest
import torch
from demo_faces import folder_of
from models import core_sample, sigmas
from tiny_transformers import LAYOUTS, latent_of, prompt, transformer

pytestmark = pytest.mark.comfy

JOINT = ("double.0", "double.0.text", "double.1", "double.1.text")
SITES = {
    "Flux": (*JOINT, "single.0", "single.1"),
    "Flux2": (*JOINT, "single.0", "single.1"),
    "Chroma": (*JOINT, "single.0", "single.1"),
    "HunyuanVideo": (*JOINT, "single.0", "single.1"),
    "SD3": JOINT[:3],
    "QwenImage": JOINT,
    "Lumina2": JOINT,
    "ZImage": JOINT,
    "WAN21_T2V": ("double.0", "double.1"),
}
CLIPS = ("HunyuanVideo", "WAN21_T2V")


@pytest.fixture(scope="module", params=LAYOUTS)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def model(family):
    return transformer(family)


def sample(model, latent=None, *, steps=2, cfg=2.0, schedule=None, sampler="euler"):
    schedule = sigmas(model, steps, "simple") if schedule is None else schedule
    return core_sample(model, sampler, schedule, prompt(1), prompt(2), latent or latent_of(model), 3, cfg)


def shapes_of(host, model, latent=None):
    """Of h at each site."""
    recording, recorder = host.record(model, "positive", host.sites_of(model))
    sample(recording, latent)
    return {site: each.shape[2:] for site, each in recorder.trajectory()[1].items()}


def direction(pack, host, model, deltas, **words):
    source = pack.directions.Source(host.model_family(model), "0", "positive", (64, 64))
    timesteps = torch.tensor([900.0, 500.0, 100.0])[: len(next(iter(deltas.values())))]
    given = dict(name="d", method="random", unit="one", source=source, recipe="{}") | words
    return pack.directions.Direction(deltas, timesteps, **given)


def random_deltas(host, model, *, places=(1, 1), seed=0):
    draw = torch.Generator().manual_seed(seed)
    return {site: torch.randn(3, shape[0], *places, generator=draw) for site, shape in shapes_of(host, model).items()}


def test_the_sites_of_each_family(host, family, model):
    assert host.sites_of(model) == SITES[family]
    assert host.levels_of(model) == tuple(site for site in SITES[family] if not site.endswith("text"))


def test_h_is_the_map_of_the_picture_and_the_row_of_the_text(host, family, model):
    padded = {"ZImage": 32, "Flux2": 512}.get(family, 7)  # to which ComfyUI pads their prompts
    places = (6, 10) if family == "Flux2" else (3, 5)  # in which a patch is one place of a latent, elsewhere four
    for site, shape in shapes_of(host, model).items():
        assert shape[1:] == ((1, padded) if site.endswith("text") else places)


def test_h_of_a_clip_is_its_frames_by_their_places(host, family, model):
    if family not in CLIPS:
        pytest.skip("of a model of pictures")
    shapes = shapes_of(host, model, latent_of(model, frames=3))
    assert {shape[1:] for site, shape in shapes.items() if not site.endswith("text")} == {(3, 15)}


@pytest.mark.parametrize(("height", "width", "frames"), [(6, 10, 1), (7, 9, 1), (6, 10, 3)])
def test_a_delta_at_one_place_of_the_last_site_changes_that_patch_of_the_prediction_alone(
    pack, host, family, model, height, width, frames
):
    """What comes after the last block looks at each token by itself: so h's places are the picture's."""
    if frames > 1 and family not in CLIPS:
        pytest.skip("of a model of pictures")
    if height % 2 and family == "HunyuanVideo":
        pytest.skip("ComfyUI can't sample it in odd sizes")
    latent = latent_of(model, height=height, width=width, frames=frames)
    last = [site for site in host.sites_of(model) if not site.endswith("text")][-1]
    shape = shapes_of(host, model, latent)[last]
    patch = 1 if family == "Flux2" else 2
    across = math.ceil(width / patch)
    row, column, frame = 1, 3, frames - 1
    delta = torch.zeros(1, *shape)
    place = (frame, row * across + column) if frames > 1 else (row, column)
    delta[(0, slice(None), *place)] = 10 * torch.randn(shape[0], generator=torch.Generator().manual_seed(0))
    once = dict(schedule=torch.tensor([0.5, 0.0]), cfg=1.0)
    edited = host.inject(model, direction(pack, host, model, {last: delta}), [1.0])
    changed = (sample(edited, latent, **once) != sample(model, latent, **once)).flatten(0, 1).any(0)
    wanted = torch.zeros_like(changed)
    inside = (slice(row * patch, (row + 1) * patch), slice(column * patch, (column + 1) * patch))
    wanted[(frame, *inside) if wanted.ndim == 3 else inside] = True
    assert torch.equal(changed, wanted)


def test_each_site_is_edited_by_what_is_given_for_it_and_the_picture_changes(pack, host, model):
    """Recorded behind the edit, h is what it was and the delta: the blocks before don't know of it."""
    plain = sample(model)
    for site, shape in shapes_of(host, model).items():
        delta = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
        first = sigmas(model, 2, "simple")[:2]
        recorded = []
        for edit in (model, host.inject(model, direction(pack, host, model, {site: delta}), [1.0])):
            recording, recorder = host.record(edit, "positive", [site])
            sample(recording, schedule=first)
            recorded.append(recorder.trajectory()[1][site][:, 0].float())
        scale = float(recorded[1].abs().max())
        assert torch.allclose(recorded[1] - recorded[0], delta, atol=2e-3 * scale)  # banks are float16
        if site != "double.1.text" or host.sites_of(model)[-1].startswith("single"):  # else nothing reads the last text
            assert not torch.equal(sample(edit), plain), site


def test_what_changes_nothing_is_bit_identical_to_no_node(pack, host, model):
    plain, found = sample(model), direction(pack, host, model, random_deltas(host, model))
    for changes in (dict(strengths=[0.0]), dict(strengths=[1.0], start_percent=0.5, end_percent=0.5)):
        assert torch.equal(sample(host.inject(model, found, **changes)), plain)
    outside = host.inject(model, found, [1.0], start_percent=0.0, end_percent=1e-6)  # patched, and never active
    later = torch.tensor([0.5, 0.2, 0.0])
    assert torch.equal(sample(outside, schedule=later), sample(model, schedule=later))
    host.inject(model, found, [1.0])
    assert torch.equal(sample(model), plain)


def test_one_side_of_the_guidance_is_edited_the_same_in_one_call_and_in_two(pack, host, model, monkeypatch):
    """To rounding: a batch of two is not computed as two of one."""
    found, pictures = direction(pack, host, model, random_deltas(host, model)), []
    for free in (1 << 40, 0):
        monkeypatch.setattr(type(model), "get_free_memory", lambda self, device, free=free: free)
        pictures.append(sample(host.inject(model, found, [1.0], apply_to="positive")))
    assert not torch.equal(pictures[0], sample(model))
    assert torch.allclose(pictures[0], pictures[1], atol=1e-4 * float(pictures[0].abs().max()))


def test_stacked_edits_do_not_depend_on_their_order(pack, host, model):
    first, second = (direction(pack, host, model, random_deltas(host, model, seed=seed)) for seed in (0, 1))
    one, other = (
        sample(host.inject(host.inject(model, a, [0.5]), b, [0.5])) for a, b in ((first, second), (second, first))
    )
    assert torch.allclose(one, other, atol=1e-4 * float(one.abs().max()))


def test_strengths_along_the_batch_equal_separate_runs(pack, host, model):
    found = direction(pack, host, model, random_deltas(host, model))
    single = latent_of(model)["samples"]
    both = {"samples": single.expand(2, *single.shape[1:]).clone(), "batch_index": [0, 0]}
    together = sample(host.inject(model, found, [0.0, 1.0]), both)
    apart = [sample(model), sample(host.inject(model, found, [1.0]))]
    assert torch.allclose(together, torch.cat(apart), atol=1e-4 * float(together.abs().max()))


def test_a_function_in_the_slot_of_the_same_block_keeps_working_whichever_came_first(pack, host, family, model):
    """Another pack's, which scales what the block makes: the edit is added to that."""
    if family in ("Lumina2", "ZImage"):
        pytest.skip("ComfyUI has no slot there")
    calls = []

    def halved(args, extra):
        calls.append(1)
        out = extra["original_block"](args)
        return {**out, "img": out["img"] * 0.5}

    found, pictures = direction(pack, host, model, random_deltas(host, model)), []
    for order in (0, 1):
        patched = model.clone()
        for step in (order, 1 - order):
            if step == 0:
                patched.set_model_patch_replace(halved, "dit", "double_block", 0)
            else:
                patched = host.inject(patched, found, [1.0])
        pictures.append(sample(patched))
    assert len(calls) >= 4
    assert torch.equal(*pictures)
    alone = model.clone()
    alone.set_model_patch_replace(halved, "dit", "double_block", 0)
    assert not torch.equal(pictures[0], sample(alone))
    assert not torch.equal(pictures[0], sample(host.inject(model, found, [1.0])))


def test_a_lora_beside_an_edit_acts(pack, host, family, model):
    import comfy.sd

    found = direction(pack, host, model, random_deltas(host, model))
    weights = {name: each for name, each in model.model.diffusion_model.named_parameters() if each.ndim > 1}
    name = next(name for name in weights if name.endswith(("0.weight", "qkv.weight"))).removesuffix(".weight")
    up, down = weights[f"{name}.weight"].flatten(1).shape
    draw = torch.Generator().manual_seed(5)
    sides = {"up": torch.randn(up, 2, generator=draw), "down": torch.randn(2, down, generator=draw)}
    file = {f"diffusion_model.{name}.lora_{side}.weight": each for side, each in sides.items()}
    adapted = comfy.sd.load_lora_for_models(model, None, file, 1.0, 0.0)[0]
    both = host.inject(adapted, found, [1.0])
    pictures = [sample(each) for each in (model, adapted, host.inject(model, found, [1.0]), both)]
    assert len({picture.numpy().tobytes() for picture in pictures}) == 4


@pytest.mark.parametrize("shift", [1.0, 6.0])
def test_time_is_sigma_whatever_shifts_the_schedule(pack, host, family, shift):
    """Recorded under its sigma, and added as the direction is at that sigma, between its own and at them."""
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    model = ModelSamplingSD3().patch(transformer(family), shift)[0]
    schedule, site = torch.tensor([0.9, 0.4, 0.0]), host.sites_of(model)[0]
    found = direction(pack, host, model, {site: random_deltas(host, model)[site]})
    for count, sigma in ((1, 0.9), (2, 0.4)):
        recorded = []
        # Up to the step before, both are sampled without the edit: h differs by what this one step adds.
        window = dict(start_percent=(1 - sigma_percent(model, sigma)), end_percent=1.0)
        for edit in (model, host.inject(model, found, [1.0], **window)):
            recording, recorder = host.record(edit, "positive", [site])
            sample(recording, schedule=schedule[: count + 1])
            timesteps, h = recorder.trajectory()
            assert torch.allclose(timesteps, 1000 * schedule[:count])
            recorded.append(h[site][:, -1].float())
        wanted = found.at(site, torch.tensor([1000 * sigma]))
        scale = float(recorded[1].abs().max())
        assert torch.allclose(recorded[1] - recorded[0], wanted.expand_as(recorded[0]), atol=2e-3 * scale)


def sigma_percent(model, sigma: float) -> float:
    """How far a sampling has still to go at a sigma just above this, as ComfyUI counts under the model's shift."""
    low, high, sampling = 0.0, 1.0, model.get_model_object("model_sampling")
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if sampling.percent_to_sigma(middle) > sigma + 1e-3 else (low, middle)
    return 1 - low


def test_a_curve_is_counted_as_a_window_is(pack, host, model):
    """By ComfyUI's percent, which a shift moves: falling to nothing at the half is the window up to there."""
    found = direction(pack, host, model, random_deltas(host, model))
    curve = host.inject(model, found, [1.0], curve=lambda done: float(0 <= done < 0.4))
    window = host.inject(model, found, [1.0], end_percent=0.4)
    assert torch.equal(sample(curve, steps=4), sample(window, steps=4))
    assert not torch.equal(sample(window, steps=4), sample(host.inject(model, found, [1.0]), steps=4))


def test_a_direction_of_another_kind_of_model_is_refused(pack, host, family, model):
    deltas = random_deltas(host, model)
    found = direction(pack, host, model, deltas)
    other = "Flux2" if family == "Flux" else "SD15"
    elsewhere = replace(found, source=replace(found.source, family=other))
    with pytest.raises(ValueError, match=f"got {other}, wanted {family}"):
        host.inject(model, elsewhere, [1.0])
    deep = direction(pack, host, model, {"double.9": next(iter(deltas.values()))})
    with pytest.raises(ValueError, match="got double.9, wanted some of double.0"):
        host.inject(model, deep, [1.0])
    wide = direction(pack, host, model, {"double.0": torch.ones(1, 5, 1, 1)})
    with pytest.raises(ValueError, match="got 5 channels, wanted"):
        sample(host.inject(model, wide, [1.0]))


def test_a_mask_keeps_the_edit_where_it_is_white_and_is_refused_on_a_text(pack, host, model):
    last = [site for site in host.sites_of(model) if not site.endswith("text")][-1]
    delta = random_deltas(host, model)[last]
    mask = torch.zeros(1, 6, 10)
    mask[:, :, :4] = 1
    once = dict(schedule=torch.tensor([0.5, 0.0]), cfg=1.0)
    edited = host.inject(model, direction(pack, host, model, {last: delta}), [1.0], mask=mask)
    changed = (sample(edited, **once) != sample(model, **once)).flatten(0, -2).any(0)
    assert changed.tolist() == [True] * 4 + [False] * 6
    text = next((site for site in host.sites_of(model) if site.endswith("text")), None)
    if text:
        with pytest.raises(ValueError, match="A mask can't act on a text"):
            host.inject(model, direction(pack, host, model, {text: delta}), [1.0], mask=mask)


def test_a_mask_on_a_clip_is_refused(pack, host, family, model):
    if family not in CLIPS:
        pytest.skip("of a model of pictures")
    deltas = {"double.0": random_deltas(host, model)["double.0"]}
    edited = host.inject(model, direction(pack, host, model, deltas), [1.0], mask=torch.ones(1, 6, 10))
    with pytest.raises(ValueError, match="A mask can't act on a clip"):
        sample(edited, latent_of(model, frames=3))


def test_banks_components_and_pairs_are_found_on_it(pack, host, nodes_of_pack, model, tmp_path):
    """Sampled into a bank, found by PCA and from two prompts, added to each other and injected."""
    import comfy.samplers

    given = dict(sampler=comfy.samplers.sampler_object("euler"), sigmas=sigmas(model, 2, "simple"))
    latent = latent_of(model)
    with folder_of("hspace_banks", tmp_path):
        bank, *_ = nodes_of_pack.HSpaceSampleBank.execute(
            model, prompt(1), prompt(2), **given, latent=latent, count=6, first_seed=0, batch_size=3, name="tiny",
            cfg=2.0, branch="positive", sites=", ".join(host.sites_of(model)), grid=2,
        ).result  # fmt: skip
        assert set(bank.shapes) == set(host.sites_of(model))
        found = pack.directions.find_components(bank, 2)
        run = dict(negative=prompt(2), cfg=2.0, latent=latent, **given)
        scene = {side: dict(positive=prompt(seed), **run) for side, seed in (("with", 3), ("without", 4))}
        pairs, _ = host.find_slider(
            model, [scene], name="pairs", seeds=range(4), batch_size=2, branch="positive", sites=host.sites_of(model)
        )
    both = found[0] + pack.directions.orthogonalise(found[1], [found[0]])
    for each in (found[0], both, pairs.direction):
        picture = sample(host.inject(model, each, [1.0]))
        assert torch.isfinite(picture).all() and not torch.equal(picture, sample(model))
