"""torch.compile and edits: what knows nothing of a patch stays compiled, and where that can't be a line says so."""

import logging

import pytest
import torch
from models import conditioning, core_sample, random_direction, sd15, sigmas
from torch import Tensor

pytestmark = pytest.mark.comfy

SHAPE = (64, 2, 2)
WHOLE = ["diffusion_model"]


class Compiled:
    """A backend of torch.compile that changes nothing and counts its graphs."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


@pytest.fixture
def backend():
    yield Compiled()
    torch.compiler.reset()


@pytest.fixture(scope="module")
def model():
    """With the attention that ComfyUI takes on a GPU: through it torch.compile sees a block as one graph."""
    from comfy.ldm.modules.attention import attention_pytorch

    model = sd15()
    override = lambda func, *args, **kwargs: attention_pytorch(*args, **kwargs)  # noqa: E731
    model.model_options["transformer_options"]["optimized_attention_override"] = override
    return model


@pytest.fixture(scope="module")
def blocks(model):
    """The names of the transformers' blocks."""
    from comfy.ldm.modules.attention import BasicTransformerBlock

    modules = model.model.named_modules()
    return [name for name, module in modules if isinstance(module, BasicTransformerBlock)]


@pytest.fixture
def compiled(model, backend):
    def compiled(keys, model=model):
        from comfy_api.torch_helpers import set_torch_compile_wrapper
        from comfy_extras.nodes_torch_compile import skip_torch_compile_dict

        clone = model.clone()
        options = {"guard_filter_fn": skip_torch_compile_dict}  # as core's TorchCompileModel
        set_torch_compile_wrapper(clone, backend, options=options, keys=keys)
        return clone

    return compiled


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO)
    return lambda: [each.getMessage() for each in caplog.records if "is compiled" in each.getMessage()]


def sampled(model) -> Tensor:
    latent = {"samples": torch.zeros(1, 4, 16, 16)}
    return core_sample(model, "euler", sigmas(model, 3), conditioning(1), conditioning(2), latent, 0, 3.0)


def test_the_blocks_of_a_model_that_is_compiled_whole_stay_compiled_under_an_edit(
    pack, host, model, backend, compiled, said
):
    whole = compiled(WHOLE)
    assert torch.equal(sampled(whole), sampled(model))
    assert not said()
    before = backend.graphs
    for strength in 1.0, 2.0:
        edit = [random_direction(pack, model, SHAPE), [strength]]
        assert torch.equal(sampled(host.inject(whole, *edit)), sampled(host.inject(model, *edit)))
        assert torch.equal(sampled(compiled(WHOLE, host.inject(model, *edit))), sampled(host.inject(model, *edit)))
    assert backend.graphs > before
    lines = said()
    assert len(lines) == 4 and all("with 10 compiled blocks" in line for line in lines)
    assert torch.equal(sampled(whole), sampled(model))


def test_a_model_that_is_compiled_in_blocks_needs_nothing(pack, host, model, blocks, backend, compiled, said):
    edit = [random_direction(pack, model, SHAPE), [1.0]]
    assert torch.equal(sampled(host.inject(compiled(blocks), *edit)), sampled(host.inject(model, *edit)))
    assert backend.graphs > 0 and not said()


def test_recording_leaves_blocks_compiled_too(host, model, backend, compiled):
    watched, recorder = host.record(compiled(WHOLE), "positive")
    plain, of_plain = host.record(model, "positive")
    assert torch.equal(sampled(watched), sampled(plain))
    assert torch.equal(recorder.trajectory()[1]["middle"], of_plain.trajectory()[1]["middle"])
    assert backend.graphs > 0


def test_under_patches_of_attention_it_runs_uncompiled_and_says_so(pack, host, model, backend, compiled, said):
    """Core's compiled blocks keep to the patches of their first call."""
    edit = [random_direction(pack, model, SHAPE), [1.0]]

    def patched(model):
        model = host.inject(model, *edit)
        model.set_model_attn2_output_patch(lambda n, options: n * 0.5)
        return model

    assert torch.equal(sampled(patched(compiled(WHOLE))), sampled(patched(model)))
    assert backend.graphs == 0
    (line,) = said()
    assert "uncompiled" in line


def test_a_pixel_ddpm_runs_uncompiled_and_says_so(host, faces, backend, compiled, said):
    direction = faces.direction("d", 0)
    whole = compiled(WHOLE, faces.model)
    run = lambda model: core_sample(  # noqa: E731
        model, "euler", sigmas(model, 2), faces.empty, faces.empty, faces.latent, 0
    )
    assert torch.equal(run(host.inject(whole, direction, [1.0])), run(host.inject(faces.model, direction, [1.0])))
    assert backend.graphs == 0
    assert len(said()) == 1


def test_what_others_compile_meanwhile_stays_compiled(pack, host, model, backend, compiled):
    """Today another thread's, or a patch's own: no switch of the process is turned."""
    graphs = []
    doubled = torch.compile(lambda h: h * 2, backend=lambda graph, inputs: graphs.append(graph) or graph.forward)
    edited = host.inject(compiled(WHOLE), random_direction(pack, model, SHAPE), [1.0])
    edited.set_model_middle_block_after_patch(lambda args: {"h": doubled(args["h"])})
    sampled(edited)
    assert graphs


@pytest.mark.parametrize("in_blocks", [False, True])
def test_where_derivatives_are_taken_it_runs_uncompiled_and_says_so(
    host, model, blocks, backend, compiled, said, in_blocks
):
    found = []
    chosen = compiled(blocks if in_blocks else WHOLE)
    schedule = sigmas(model, 3)
    visit = lambda sigma, unet: found.append(unet.jacobian())  # noqa: E731
    sampled(host.visit_at_sigmas(chosen, visit, {float(schedule[1]): "the second step"}, "positive", "middle"))
    assert len(found) == 1 and backend.graphs == 0
    (line,) = said()
    assert "derivatives are taken" in line
