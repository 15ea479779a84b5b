"""Inputs that several nodes share, word for word."""

from collections.abc import Callable

from comfy_api.input import CurveInput
from comfy_api.latest import io

from .types import HSpaceDirection

UNET = io.Model.Input("model", tooltip="A UNet with a bottleneck: SD1.x, SD2.x, SDXL or a pixel DDPM.")
MODEL = io.Model.Input(
    "model",
    tooltip="A UNet: SD 1.x, SD 2.x, SDXL or a pixel DDPM; or a transformer: Flux, Chroma, SD3.5, Qwen-Image, Z-Image, "
    "Wan.",
)
PROMPTED_MODEL = io.Model.Input(
    "model",
    tooltip="A text-to-image model. A UNet: SD 1.x, SD 2.x, SDXL; or a transformer: Flux, Chroma, SD3.5, Qwen-Image, "
    "Z-Image, Wan.",
)
WITH_IT = io.Conditioning.Input("positive", tooltip='A prompt with it, such as "photo of a smiling person".')
WITHOUT_IT = io.Conditioning.Input("opposite", tooltip='The same prompt without it: "photo of a serious person".')
NEGATIVE_OF_BOTH = io.Conditioning.Input("negative", tooltip="The negative prompt of both. Not used at cfg 1.")
FEW_STEPS = io.Sigmas.Input("sigmas", tooltip="The schedule. 10 to 25 steps are enough.")
TEXT_ENCODER = io.Clip.Input("clip", tooltip="The text encoder, as for CLIP Text Encode.")
ANY_SAMPLER = io.Sampler.Input("sampler", tooltip="Any sampler.")
SCENES = io.String.Input(
    "scenes",
    multiline=True,
    default="portrait of a {smiling|frowning} person",
    tooltip="A prompt in each line, with what is to come and, behind the bar, its opposite. One line works; three to "
    "ten that differ in everything else leave less that changes by the way.",
)
NEGATIVE_OF_ALL = io.String.Input("negative", default="", tooltip="The negative prompt of all. Not used at cfg 1.")
NAME = io.String.Input("name", default="my direction", tooltip="Name of the direction and its file.")
POSITIVE = io.Conditioning.Input("positive", tooltip="As for the sampler.")
NEGATIVE = io.Conditioning.Input("negative", tooltip="As for the sampler. Not used at cfg 1.")
EMPTY_LATENT = io.Latent.Input("latent", tooltip="One empty latent: gives the size of the pictures.")
VAE = io.Vae.Input("vae", tooltip="Decodes the pictures.")
CFG = io.Float.Input(
    "cfg",
    default=1.0,
    min=0.0,
    max=100.0,
    step=0.1,
    tooltip="Guidance scale, as in the sampler: 1 for models without a prompt, 5 to 8 for Stable Diffusion.",
)
BATCH_SIZE = io.Int.Input(
    "batch_size",
    default=8,
    min=1,
    max=256,
    tooltip="Pictures sampled at once. Changes speed and memory, not the pictures. 1 to 16.",
)
DECODE_SIZE = io.Int.Input(
    "batch_size",
    default=16,
    min=1,
    max=256,
    tooltip="Pictures decoded and judged at once. Changes speed and memory, not the scores. 4 to 32.",
)
APPLY_TO = io.Combo.Input(
    "apply_to",
    options=["both", "positive", "negative"],
    default="both",
    advanced=True,
    tooltip="Which side of the guidance is edited. both moves the picture as a whole; positive alone is stronger "
    "with cfg above 1.",
)
FIT = io.Combo.Input(
    "fit",
    options=["resize", "exact", "channel mean"],
    default="resize",
    advanced=True,
    tooltip="When the picture's size differs from the direction's: resize stretches it, exact refuses, channel mean "
    "drops its layout and keeps only what it does everywhere.",
)
BRANCH = io.Combo.Input(
    "branch",
    options=["positive", "negative"],
    default="positive",
    advanced=True,
    tooltip="Which side of the guidance to record. positive is right unless you know better.",
)
SITES = io.String.Input(
    "sites",
    default="auto",
    optional=True,
    advanced=True,
    tooltip='Where to read. In a UNet "middle" is the bottleneck, "output.3" what enters decoder block 3; in a '
    'transformer "double.5" is what block 5 makes of the picture, "double.5.text" of the text, "single.5" likewise; '
    "several with commas between. auto takes the bottleneck of a pixel DDPM, and the decoder's levels too of a UNet "
    "that listens to prompts; of a transformer the block in the middle, for the picture.",
)
SITE = io.String.Input(
    "sites",
    default="auto",
    optional=True,
    advanced=True,
    tooltip='The place in the UNet: "middle" is the bottleneck, "output.3" what enters decoder block 3. auto takes the '
    "bottleneck of a pixel DDPM, and the level of the decoder above it of a model that listens to prompts.",
)
SPAN = io.Combo.Input(
    "span",
    options=["whole trajectory", "each timestep"],
    default="whole trajectory",
    tooltip="whole trajectory removes what is shared over all timesteps together, as in the paper. each timestep "
    "removes it at every one.",
)
CLIP = io.Clip.Input(
    "clip",
    tooltip="From Load CLIP, with its text projection, such as clip_l.safetensors. The CLIP inside an SD 1.x "
    "checkpoint has lost it.",
)
CLIP_VISION = io.ClipVision.Input(
    "clip_vision", tooltip="The vision half of the same CLIP, such as clip_vision_l (ViT-L/14)."
)
STRENGTH = io.Float.Input(
    "strength",
    default=1.0,
    min=-10.0,
    max=10.0,
    step=0.05,
    round=0.001,
    display_mode=io.NumberDisplay.slider,
    tooltip="0 is off, 1 a clear edit, 3 a strong one, negative the opposite.",
)
CURVE = io.Custom(io.Curve.io_type).Input(
    "curve",
    optional=True,
    tooltip="From Curve Editor: what the strength is multiplied with as the sampling goes on, left pure noise, right "
    "the finished picture, 0 to 1. Without it 1 all the way.",
    extra_dict={"forceInput": True},
)
MASK = io.Mask.Input("mask", optional=True, tooltip="Where to edit: white is edited, black left alone.")


def first_seed_input(what: str) -> io.Int.Input:
    return io.Int.Input(
        "first_seed",
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        tooltip=f"Seed of the first {what}, counting up from there.",
    )


def seed_input(tooltip: str) -> io.Int.Input:
    return io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=False, tooltip=tooltip)


def window_inputs() -> list[io.Float.Input]:
    """start_percent and end_percent, as core nodes have them."""
    return [
        io.Float.Input(
            id,
            default=default,
            min=0.0,
            max=1.0,
            step=0.001,
            advanced=True,
            tooltip=f"Where in the sampling the edit {which}: 0 is pure noise, 1 the finished picture. Normally "
            f"{default:g}.",
        )
        for id, default, which in (("start_percent", 0.0, "starts"), ("end_percent", 1.0, "ends"))
    ]


def strength_curve(curve) -> Callable[[float], float] | None:
    """What `curve` gives at each share of the sampling; None without one."""
    return None if curve is None else CurveInput.from_raw(curve).interp


def directions_input(id: str, tooltip: str, *, fewest: int) -> io.Autogrow.Input:
    """A list of directions that grows as they are connected."""
    direction = HSpaceDirection.Input("direction", tooltip=tooltip, optional=fewest == 0)
    template = io.Autogrow.TemplatePrefix(direction, prefix="direction", min=fewest, max=50)
    return io.Autogrow.Input(id, template=template, optional=fewest == 0, tooltip=tooltip)


def connected(directions: dict | None) -> list:
    return [direction for direction in (directions or {}).values() if direction is not None]
