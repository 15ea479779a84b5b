"""What comes after a site of a transformer, cut out while it samples."""

import gc

import pytest
import torch
from lent_weights import WAYS, lend_weights
from models import core_sample
from tiny_transformers import latent_of, prompt, transformer
from torch.profiler import ProfilerActivity, profile

pytestmark = pytest.mark.comfy

FAMILIES = ("Flux", "Flux2", "Chroma", "HunyuanVideo")
SITES = ("double.0", "double.0.text", "double.1", "single.0", "single.1")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def model(family):
    with torch.inference_mode():  # as ComfyUI loads models
        return transformer(family)


@pytest.fixture
def cut(modules):
    """The transformer cut in a sampling's one step, for the positive prompt, and what the model predicts of it."""
    split = modules("host.split_transformer").split

    def of(model, site: str, cfg: float = 2.0, **words):
        found = []

        def cutting(executor, *args, **kwargs):
            places = args[-1]["cond_or_uncond"]
            if 0 not in places:
                return executor(*args, **kwargs)
            part = places.index(0), len(places)
            prediction, halves = split(executor, *args, site=site, part=part, **kwargs)
            found.append((halves, prediction.chunk(part[1])[part[0]].clone()))
            return prediction

        watched = modules("host.patching").wrapped(model, differentiated=True)
        watched.add_wrapper_with_key("diffusion_model", "test", cutting)
        with torch.inference_mode():
            sample(watched, cfg, **words)
        return found[0]

    return of


def sample(model, cfg: float = 2.0, **words):
    positive, negative = ([[tokens, {**options, **words}]] for ((tokens, options),) in (prompt(1), prompt(2)))
    return core_sample(model, "euler", torch.tensor([0.5, 0.0]), positive, negative, latent_of(model), 3, cfg)


def halved(args, extra):
    """Another pack's function in a block's slot."""
    out = extra["original_block"](args)
    return {**out, "img": 0.5 * out["img"]}


def close(got, wanted, rounding: float = 1e-5):
    """To the last bits: attention and positions are computed in another way, and a batch of two otherwise than one."""
    torch.testing.assert_close(got, wanted, rtol=0, atol=rounding * float(wanted.abs().max()))


def assert_derivatives(modules, halves, shapes):
    """Of the prediction by deltas of these shapes: both products are each other's transpose, and the slope."""
    vector = modules("host.slider_lesson").SiteVector(shapes, dict.fromkeys(shapes, float(halves.h.std())))
    decode = modules("host.slider_lesson").edited_decode
    effect = lambda each: decode(halves, vector.deltas(each), torch.ones(1))  # noqa: E731
    value, jacobian = modules("host.products").jacobian_of(effect, torch.zeros(len(vector)))
    draw = torch.Generator().manual_seed(0)
    v, u = torch.randn(jacobian.in_shape, generator=draw), torch.randn(jacobian.out_shape, generator=draw)
    forward, step = jacobian.forward(v), 1e-3
    with torch.no_grad():
        difference = (effect(step * v) - effect(-step * v)) / (2 * step)
    close(value, halves.decode(halves.h))
    # measured 4e-4 at most: the difference's own error, in float32 1e-7 / step, and of Flux 2 its padding of the text,
    # small tokens that the normalisation makes large
    assert (forward - difference).norm() < 1e-3 * difference.norm()
    pulled = v @ jacobian.transposed(u)
    assert float(pulled) == pytest.approx(float((forward * u).sum()), abs=1e-5 * float(forward.norm() * u.norm()))


@pytest.mark.parametrize("site", SITES)
def test_what_follows_a_site_makes_the_models_prediction(cut, model, site):
    for cfg in (1.0, 2.0):
        halves, prediction = cut(model, site, cfg)
        kept = halves.h.clone()
        close(halves.decode(halves.h), prediction)
        assert torch.equal(halves.h, kept)


@pytest.mark.parametrize("how", ["offset", "index", "index_timestep_zero"])
def test_with_pictures_to_refer_to_as_well(modules, cut, how):
    """Their tokens follow those of the picture; in the last way the blocks treat them by a time of their own."""
    model = transformer("Flux2", guidance_embed=False)
    given = dict(reference_latents=[latent_of(model)["samples"] + 0.5], reference_latents_method=how)
    for site in ("double.0", "single.0"):
        halves, prediction = cut(model, site, **given)
        close(halves.decode(halves.h), prediction)
        assert_derivatives(modules, halves, {site: halves.h.shape[1:]})
    assert not torch.allclose(prediction, cut(model, "double.0")[1], rtol=1e-2)


def test_edits_of_sites_are_what_the_model_predicts_with_a_direction_there(pack, host, modules, cut, model):
    """At the cut, at the other stream of its block, and later; a text's tokens all have the same one."""
    halves, plain = cut(model, "double.0")
    draw = torch.Generator().manual_seed(0)
    row = halves.h.shape[1], 1, 1
    shapes = {"double.0": halves.h.shape[1:], "double.0.text": row, "double.1": row, "single.1": halves.h.shape[1:]}
    deltas = {site: torch.randn(shape, generator=draw) for site, shape in shapes.items()}
    words = dict(name="d", method="random", unit="one", recipe="{}")
    words["source"] = pack.directions.Source(host.model_family(model), "0", "positive", (64, 64))
    for sites in (["double.0"], list(deltas)):
        some = {site: deltas[site] for site in sites}
        found = pack.directions.Direction(
            {site: delta[None] for site, delta in some.items()}, torch.tensor([500.0]), **words
        )
        got = modules("host.slider_lesson").edited_decode(halves, some, torch.ones(1))
        _, wanted = cut(host.inject(model, found, [1.0]), "double.0")
        close(got, wanted)
        assert (got - plain).norm() > 0.1 * plain.norm()


@pytest.mark.parametrize("mode", ["two graphs", "one graph"])
@pytest.mark.parametrize("first", ["double.0", "double.0.text", "single.0"])
def test_both_products_are_derivatives_and_each_others_transpose(modules, cut, model, first, mode, monkeypatch):
    halves, _ = cut(model, first)
    if mode == "one graph":
        import comfy.model_management

        free = iter([1000, 1 << 40])  # too little for both graphs, enough for one
        monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: next(free))
    shapes = {first: (halves.h.shape[1], 1, 1) if first.endswith("text") else halves.h.shape[1:]}
    shapes["single.1"] = (halves.h.shape[1], 1, 1)
    assert_derivatives(modules, halves, shapes)


@pytest.mark.parametrize("way", WAYS)
def test_derivatives_are_the_same_where_comfyui_lends_weights_to_layers(cut, way):
    plain, lent = transformer("Flux"), transformer("Flux")
    found = []
    for model in (plain, lent):
        if model is lent:
            lend_weights(model.model, way)
        halves, _ = cut(model, "double.0.text")
        with torch.enable_grad():
            h = halves.h.clone().requires_grad_()
            found.append(torch.autograd.grad(halves.decode(h).square().sum(), h)[0])
    close(*found, rounding=1e-6)
    assert found[0].abs().max() > 0


@pytest.mark.parametrize(("site", "block"), [("double.0", 0), ("double.0.text", 1), ("double.1", 1), ("single.0", 1)])
def test_what_another_pack_put_in_a_blocks_slot_acts_once(cut, model, site, block):
    """At a block before the cut, at the cut, or after."""
    patched = model.clone()
    patched.set_model_patch_replace(halved, "dit", "double_block", block)
    halves, prediction = cut(patched, site)
    close(halves.decode(halves.h), prediction)
    assert not torch.allclose(prediction, cut(model, site)[1], rtol=1e-2)


def test_what_another_pack_does_to_queries_is_done_before_they_get_their_positions(cut, model):
    def shifted(q, k, v, pe, attn_mask, extra_options):
        assert pe is not None
        return {"q": q + torch.linspace(-1, 1, q.shape[-1], device=q.device)}

    patched = model.clone()
    patched.set_model_attn1_patch(shifted)
    halves, prediction = cut(patched, "double.0")
    close(halves.decode(halves.h), prediction)
    assert not torch.allclose(prediction, cut(model, "double.0")[1], rtol=1e-2)


def test_cutting_changes_no_picture_and_leaves_nothing_behind(modules, cut, model):
    before = sample(model)
    halves, _ = cut(model, "double.0")
    halves.decode(halves.h)
    assert torch.equal(sample(model), before)
    assert not model.wrappers and "patches_replace" not in model.model_options["transformer_options"]


def test_a_budget_counts_what_torch_allocates_for_a_graph(modules, cut, model):
    halves, _ = cut(model, "double.0")
    budget = modules("host.graph_budget").GraphBudget(torch.device("cpu"))
    gc.collect()  # what other tests left is not to be given back meanwhile
    with (
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded,
        modules("host.derivatives").derivatives(),
        budget.measured(),
    ):
        h = halves.h.clone().requires_grad_()
        out = halves.decode(h)
    kept = sum(event.self_cpu_memory_usage for event in recorded.events()) - out.nbytes - h.nbytes
    assert budget.bytes == pytest.approx(kept, rel=0.01)  # constants, and numbers beside tensors


def test_a_graph_that_does_not_fit_says_how_much_it_needs(modules, cut, model, monkeypatch):
    import comfy.model_management

    halves, _ = cut(model, "double.0")
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: 1000)
    with pytest.raises(ValueError, match=r"needs over 0\.0 GB"):
        modules("host.products").jacobian_of(halves.decode, halves.h)


def test_under_a_controlnet_it_is_refused(modules):
    def run(x, timestep, context, control=None, transformer_options={}):  # noqa: B006, as ComfyUI has it
        raise AssertionError

    from comfy.patcher_extension import WrapperExecutor

    executor = WrapperExecutor.new_executor(run, [])
    with pytest.raises(ValueError, match="under a ControlNet"):
        modules("host.split_transformer").split(executor, 0, 0, 0, {"input": []}, {}, site="double.0", part=(0, 1))
