"""The demo faces that listen to words: Stable Diffusion 1.x and Flux 1, scaled down, as MODEL, CLIP and VAE.

A file is laid out as a checkpoint of Stable Diffusion 1.x; its metadata say how large the networks are.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import folder_paths
from comfy import latent_formats, model_management, model_patcher, supported_models
from comfy.model_base import ModelType
from comfy.sd import CLIP, VAE
from safetensors import SafetensorError
from torch import Tensor

from ...directions import brief, opened

TOKENS = 49408
"""Rows of CLIP's table of words; the file has only those of words that captions have, and one for all others."""

_UNET, _TEXT, _VAE = "model.diffusion_model.", "cond_stage_model.", "first_stage_model."
_WORDS = f"{_TEXT}clip_l.transformer.text_model.embeddings.token_embedding.weight"
_KNOWN_TOKENS = "known_tokens"


class PromptedFaces(supported_models.SD15):
    """Settings of a Stable Diffusion 1.x of another size that predicts v. The class's name is the model family."""

    unet_config: dict = {}
    unet_extra_config: dict = {}

    def __init__(self, settings: Mapping[str, Any]):
        super().__init__(settings["unet"])
        self.latent_format = _DemoLatents(settings["latent_rgb"])

    def model_type(self, state_dict: dict, prefix: str = "") -> ModelType:
        return ModelType.V_PREDICTION


class TransformerFaces(supported_models.Flux):
    """Settings of a Flux 1 of another size, in whose schedule less is done at high noise: its pictures are small."""

    unet_config: dict = {}
    sampling_settings: dict = {"shift": 0.5}

    def __init__(self, settings: Mapping[str, Any]):
        super().__init__(settings["transformer"])
        self.latent_format = _DemoLatents(settings["latent_rgb"])


class _DemoLatents(latent_formats.LatentFormat):
    """Four channels of unit variance, half as wide and high as the picture."""

    spacial_downscale_ratio = 2

    def __init__(self, rgb: list[list[float]]):
        *self.latent_rgb_factors, self.latent_rgb_factors_bias = rgb


class Checkpoint(NamedTuple):
    """What Load Checkpoint gives."""

    model: model_patcher.ModelPatcher
    clip: CLIP
    vae: VAE


def load_prompted_faces(path: Path) -> Checkpoint:
    """MODEL, CLIP and VAE in `path`; `ValueError` if the file is damaged or something else."""
    try:
        settings, tensors = _read(path)
        return Checkpoint(_model(settings, tensors), _clip(settings, tensors), _vae(settings, tensors))
    except (SafetensorError, json.JSONDecodeError, OSError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{path.name} is damaged: got {brief(error)}, wanted the file that comes with this pack. Install the pack "
            "again."
        ) from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with opened(path) as file:
        settings = json.loads(file.metadata()["settings"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it has no other
    rows = tensors[_WORDS]
    words = rows[-1].repeat(TOKENS, 1)
    words[tensors.pop(_KNOWN_TOKENS)] = rows[:-1]
    return settings, tensors | {_WORDS: words}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _model(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> model_patcher.ModelPatcher:
    weights = _part(tensors, _UNET)
    config = TransformerFaces(settings) if "transformer" in settings else PromptedFaces(settings)
    device, offload_device = model_management.get_torch_device(), model_management.unet_offload_device()
    supported = config.supported_inference_dtypes
    dtype = model_management.unet_dtype(
        model_params=sum(weight.numel() for weight in weights.values()), supported_dtypes=supported
    )
    config.set_inference_dtype(dtype, model_management.unet_manual_cast(dtype, device, supported))
    model = config.get_model({}, device=offload_device)
    model.diffusion_model.load_state_dict(weights)
    return model_patcher.CoreModelPatcher(model, load_device=device, offload_device=offload_device)


def _clip(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> CLIP:
    weights = _part(tensors, _TEXT)
    return CLIP(
        supported_models.SD15.clip_target(None),
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        parameters=sum(weight.numel() for weight in weights.values()),
        state_dict=weights,
        model_options={"clip_l_model_config": settings["text"]},
    )


def _vae(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> VAE:
    vae = VAE(sd=_part(tensors, _VAE), config={"params": settings["vae"]})
    vae.downscale_ratio = vae.upscale_ratio = _DemoLatents.spacial_downscale_ratio
    return vae
