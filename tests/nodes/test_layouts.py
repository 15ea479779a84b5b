"""Which models the pack takes: every layout with a middle block at full size, on the meta device, and nothing else."""

from dataclasses import replace

import pytest
import torch
from models import conditioning, sigmas
from planted import SOURCE, direction
from slow.checkpoints import LAYOUTS, NO_MIDDLE_BLOCK, V_PREDICTION, meta_model, shapes, weight
from tiny_transformers import LAYOUTS as LAYOUTS_OF_TRANSFORMERS
from tiny_transformers import transformer as tiny_transformer

pytestmark = pytest.mark.comfy

FAMILIES = {
    "SD 1.5": ("SD15", (1280, 8, 8)),
    "SD 2": ("SD20", (1280, 8, 8)),
    "SD 2 v-prediction": ("SD20", (1280, 8, 8)),
    "SDXL": ("SDXL", (1280, 16, 16)),
    "SDXL refiner": ("SDXLRefiner", (1536, 8, 8)),
    "SSD-1B": ("SSD1B", (1280, 16, 16)),
    "Segmind Vega": ("Segmind_Vega", (1280, 16, 16)),
    "KOALA-1B": ("KOALA_1B", (1280, 16, 16)),
    "KOALA-700M": ("KOALA_700M", None),
    "SD-XS": ("SD15", None),
    "SD 0.9-XS": ("SD20", None),
}
"""The family ComfyUI sees, and h at 512 pixels."""

WITHOUT_HOOKS = {
    "HiDream": {
        "image_model": "hidream", "patch_size": 2, "in_channels": 16, "num_layers": 1, "num_single_layers": 1,
        "attention_head_dim": 16, "num_attention_heads": 1, "caption_channels": [16, 16], "axes_dims_rope": [8, 4, 4],
        "llama_layers": [0, 0], "text_emb_dim": 16,
    },
    "PixArtSigma": {
        "image_model": "pixart_sigma", "depth": 1, "hidden_size": 32, "num_heads": 2, "micro_condition": False,
    },
    "Omnigen2": {
        "image_model": "omnigen2", "num_layers": 1, "num_refiner_layers": 1, "hidden_size": 36,
        "num_attention_heads": 3, "num_kv_heads": 1, "axes_dim_rope": [4, 4, 4], "text_feat_dim": 16,
    },
}  # fmt: skip
"""Layouts of transformers in whose blocks ComfyUI lets nothing be put, by the family it sees."""


def patcher(model):
    from comfy.model_patcher import ModelPatcher

    return ModelPatcher(model, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))


def transformer(family: str):
    from comfy.model_detection import model_config_from_unet_config

    config = model_config_from_unet_config(WITHOUT_HOOKS[family])
    config.unet_config["dtype"] = torch.float32
    assert type(config).__name__ == family
    return config.get_model({}, device=torch.device("meta"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_core_detects_the_layout_of_a_checkpoint(layout):
    from comfy.model_detection import model_config_from_unet, unet_prefix_from_state_dict

    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes(layout).items()}
    prefix = unet_prefix_from_state_dict(tensors)
    config = model_config_from_unet(tensors, prefix)
    assert type(config).__name__ == FAMILIES[layout][0]
    for key, value in LAYOUTS[layout].items():
        if key != "disable_self_attentions":  # core can't see it in a checkpoint
            assert config.unet_config[key] == value, key


def test_core_takes_sd2_for_v_prediction_by_its_weights():
    from comfy.model_base import ModelType

    for layout, kind in (("SD 2", ModelType.EPS), ("SD 2 v-prediction", ModelType.V_PREDICTION)):
        config = meta_model(layout).model_config
        assert config.model_type({V_PREDICTION: weight(V_PREDICTION, (320,), layout)}) == kind


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout not in NO_MIDDLE_BLOCK])
def test_a_layout_with_a_middle_block_is_taken(host, layout):
    model = patcher(meta_model(layout))
    host.require_bottleneck(model, "A test")
    family, shape = FAMILIES[layout]
    assert host.model_family(model) == family
    assert h_of(model, LAYOUTS[layout]) == shape


def h_of(model, config: dict) -> tuple[int, ...]:
    """What a patch sees at 512 pixels. On the meta device: there attention, which asks for free memory, is left out."""
    seen = []
    options = {
        "patches": {"middle_block_after_patch": [lambda args: seen.append(args["h"]) or {"h": args["h"]}]},
        "optimized_attention_override": lambda attention, q, k, v, *args, **kwargs: q,
    }
    x, timesteps = torch.empty(1, 4, 64, 64, device="meta"), torch.empty(1, device="meta")
    context = torch.empty(1, 77, config["context_dim"], device="meta")
    y = torch.empty(1, config["adm_in_channels"], device="meta") if config["adm_in_channels"] else None
    out = model.model.diffusion_model(x, timesteps, context=context, y=y, transformer_options=options)
    assert out.shape == x.shape
    return tuple(seen[0].shape[1:])


def test_a_direction_of_another_family_is_refused_though_its_channels_fit(host):
    models = {}
    for layout, (family, shape) in FAMILIES.items():
        if shape and shape[0] == 1280:
            models[family] = patcher(meta_model(layout))
    for family in models:
        found = direction(shape=(1280, 8, 8), source=replace(SOURCE, family=family))
        host.inject(models[family], found, [1.0])
        for other in models.keys() - {family}:
            with pytest.raises(ValueError, match=f"got {family}, wanted {other}"):
                host.inject(models[other], found, [1.0])


NODES = ["HSpaceInject", "HSpaceSampleBank", "HSpaceFindJacobian", "HSpaceInvertImage", "HSpaceProbe", "HSpaceSweep"]


@pytest.mark.parametrize("id", NODES)
@pytest.mark.parametrize("name", [*NO_MIDDLE_BLOCK, *WITHOUT_HOOKS])
def test_a_model_without_sites_is_refused_by_name(nodes_of_pack, id, name):
    model = patcher(transformer(name) if name in WITHOUT_HOOKS else meta_model(name))
    family = name if name in WITHOUT_HOOKS else FAMILIES[name][0]
    node = getattr(nodes_of_pack, id)
    with pytest.raises(
        ValueError, match=rf"^{family} \(\w+\) has no place where ComfyUI lets it be edited. Use a UNet"
    ):
        node.execute(**inputs_of(node, model))


@pytest.mark.parametrize("family", LAYOUTS_OF_TRANSFORMERS)
@pytest.mark.parametrize("id", ["HSpaceFindJacobian", "HSpaceInvertImage", "HSpaceLearnDirection"])
def test_what_needs_a_bottleneck_refuses_a_transformer_by_name(nodes_of_pack, id, family):
    """With the latent of the model's own workflow: those of Qwen-Image and Wan have five dimensions."""
    node = getattr(nodes_of_pack, id)
    with pytest.raises(ValueError, match=rf"needs a UNet: got {family} \(\w+\), a transformer"):
        node.execute(**inputs_of(node, tiny_transformer(family)))


def inputs_of(node, model) -> dict:
    """The node's defaults, and what a workflow connects."""
    import comfy.samplers

    latent_format = model.get_model_object("latent_format")
    size = (1, 8, 8) if latent_format.latent_dimensions == 3 else (8, 8)
    connected = {
        "model": model, "positive": conditioning(1), "negative": conditioning(2), "vae": None,
        "sampler": comfy.samplers.sampler_object("euler"), "sigmas": sigmas(model, 4, "simple"),
        "objective": None, "latent": {"samples": torch.zeros(1, latent_format.latent_channels, *size)},
        "direction": direction(shape=(1280, 8, 8)),
    }  # fmt: skip
    inputs = [each for each in node.define_schema().inputs if not each.optional]
    return {each.id: connected[each.id] if each.id in connected else default(each) for each in inputs}


def default(each):
    return each.default if each.default is not None else each.options[0]
