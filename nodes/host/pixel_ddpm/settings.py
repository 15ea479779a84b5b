"""What ComfyUI must know about a pixel DDPM: its noise schedule, its latent format and how much memory it takes."""

from typing import Any

import torch
from comfy.latent_formats import ChromaRadiance
from comfy.model_base import ModelType
from comfy.supported_models_base import BASE

from ....directions import brief

TRAIN_TIMESTEPS = 1000
"""ComfyUI's `percent_to_sigma` counts in thousandths, so a schedule of another length would shift every window."""

_SCHEDULES = {"linear": "sqrt_linear", "scaled_linear": "linear"}
"""diffusers' name to ComfyUI's: "sqrt_linear" is the one with linear betas, "linear" that with linear square roots."""

_PREDICTIONS = {"epsilon": ModelType.EPS, "v_prediction": ModelType.V_PREDICTION}

_ABSENT = ("trained_betas", "rescale_betas_zero_snr", "thresholding")


class DDPM(BASE):
    """Settings of a pixel DDPM, read from diffusers' scheduler_config.json. The class's name is the model family.

    `clip_sample`, `variance_type`, `timestep_spacing` and the like are ignored: they say how diffusers samples, and
    in ComfyUI the sampler and the scheduler say that. What would change the model itself is refused.
    """

    latent_format = ChromaRadiance  # pixels in -1..1, previewed as they are
    supported_inference_dtypes = [torch.float32]
    unet_extra_config: dict = {}
    memory_usage_factor = 0.15
    """About 390 MiB for one image of 256x256 at 128 channels, the papers' models."""

    def __init__(self, scheduler: dict[str, Any]):
        super().__init__({"disable_unet_model_creation": True, "in_channels": 3, "dtype": torch.float32})
        self.prediction = _chosen(scheduler, "prediction_type", _PREDICTIONS, default="epsilon")
        self.sampling_settings = _sampling_settings(scheduler)

    def model_type(self, state_dict: dict, prefix: str = "") -> ModelType:
        return self.prediction


def _sampling_settings(scheduler: dict[str, Any]) -> dict[str, Any]:
    schedule = _chosen(scheduler, "beta_schedule", _SCHEDULES)
    _chosen(scheduler, "num_train_timesteps", {TRAIN_TIMESTEPS: True})
    for key in _ABSENT:
        if scheduler.get(key):
            raise ValueError(
                f"scheduler_config.json: got {key} {brief(repr(scheduler[key]))}, wanted none: ComfyUI has no "
                "schedule like it. Choose a model without it."
            )
    start, end = scheduler.get("beta_start"), scheduler.get("beta_end")
    if not (isinstance(start, int | float) and isinstance(end, int | float) and 0 < start <= end < 1):
        raise ValueError(
            f"scheduler_config.json: got beta_start {brief(repr(start))} and beta_end {brief(repr(end))}, wanted "
            "numbers such as 0.0001 and 0.02. Copy the model's own file."
        )
    return {"beta_schedule": schedule, "linear_start": start, "linear_end": end, "timesteps": TRAIN_TIMESTEPS}


def _chosen(scheduler: dict[str, Any], key: str, choices: dict, default: object = None) -> Any:
    got = scheduler.get(key, default)
    if not isinstance(got, str | int) or got not in choices:
        raise ValueError(
            f"scheduler_config.json: got {key} {brief(repr(got))}, wanted {' or '.join(map(str, choices))}. Choose "
            "a model that was trained with that."
        )
    return choices[got]
