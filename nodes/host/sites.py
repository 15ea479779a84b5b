"""The sites of a model: their names, ComfyUI's hooks for them, how a patch gets there. Only this file knows the hooks.

`middle` is what leaves the middle block; `output.N` is what enters decoder block N, before its skip is joined.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel, Upsample
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...directions import MIDDLE, Direction, brief
from .branches import NAMING

_CALL = "hspace_call"
_OUTPUT = re.compile(r"output\.(\d+)")


@dataclass(frozen=True, eq=False)
class SiteCall:
    """One evaluation of the model, as it passes a site."""

    site: str
    h: Tensor
    """`(b, c, h, w)`: what all prompts of the batch have there."""
    x: Tensor
    """`(b, channels, height, width)`: the model's input."""
    timesteps: Tensor
    """`(b,)`, all the same."""
    options: dict
    """ComfyUI's `transformer_options`."""

    @property
    def timestep(self) -> float:
        """Read from the device, which waits for it."""
        return float(self.timesteps[0])


SitePatch = Callable[[SiteCall], Tensor]
"""What takes the place of h; it leaves what it is given as it is."""


def model_family(model) -> str:
    """ComfyUI's name of the model's family, such as "SD15", "SDXL" or "DDPM"."""
    return type(model.model.model_config).__name__


def sites_of(model) -> tuple[str, ...]:
    """What can be read and edited in a model, in the order in which it gets there. None for what is no UNet."""
    unet = _unet(model)
    if _middle_block(unet) is None:
        return ()
    outputs = range(1, len(unet.output_blocks)) if isinstance(unet, UNetModel) else unet.outputs
    return (MIDDLE, *(f"output.{number}" for number in outputs))


def levels_of(model) -> tuple[str, ...]:
    """The first site of each resolution, beginning with the bottleneck: in SD 1.5 `output.3`, `output.6` and so on."""
    unet = _unet(model)
    if not isinstance(unet, UNetModel):
        return (MIDDLE, *(f"output.{number}" for number in getattr(unet, "outputs", ())))
    ends = [number for number, block in enumerate(unet.output_blocks) if isinstance(block[-1], Upsample)]
    return (MIDDLE, *(f"output.{number + 1}" for number in ends))


def chosen_sites(model, names: Sequence[str]) -> tuple[str, ...]:
    """The sites of these names, in the model's order. "auto" alone means those in which its kind keeps its meaning.

    For a pixel DDPM that is the bottleneck; for a UNet that listens to words every level of the decoder as well.
    `ValueError` for a name that the model doesn't have.
    """
    if list(names) == ["auto"]:
        return levels_of(model) if isinstance(_unet(model), UNetModel) else (MIDDLE,)
    if not names:
        raise ValueError(f"got no site, wanted auto or some of {', '.join(sites_of(model))}. Set sites.")
    require_sites(model, names, "sites")
    return tuple(site for site in sites_of(model) if site in names)


def chosen_site(model, names: Sequence[str]) -> str:
    """The one site of this name. "auto" is the bottleneck of a pixel DDPM, else the decoder's first level above it."""
    sites = chosen_sites(model, names)
    if list(names) == ["auto"]:
        return sites[min(1, len(sites) - 1)]
    if len(sites) != 1:
        raise ValueError(f"One site at a time: got {', '.join(sites)}, wanted auto or one of them. Set sites.")
    return sites[0]


def decoder_block(site: str) -> int:
    """The number of the decoder block that a site's h enters: 0 for the bottleneck."""
    return 0 if site == MIDDLE else int(_OUTPUT.fullmatch(site)[1])  # type: ignore[index]


def require_bottleneck(model) -> None:
    """`ValueError` with the model's name unless it is a UNet with a middle block."""
    if not sites_of(model):
        raise ValueError(
            f"{model_family(model)} ({type(_unet(model)).__name__}) has no UNet bottleneck, so it has no h-space. Use "
            "a UNet with a middle block: SD1.x, SD2.x, SDXL and its kin, or a pixel DDPM."
        )


def require_sites(model, sites: Sequence[str], what: str) -> None:
    """`ValueError` unless the model has all of the sites that `what` is about."""
    require_bottleneck(model)
    there = sites_of(model)
    missing = [site for site in sites if site not in there]
    if missing:
        raise ValueError(
            f"{what} needs a site that {model_family(model)} doesn't have: got {brief(', '.join(missing))}, wanted "
            f"some of {', '.join(there)}. Find it again with this model."
        )


def require_fit(model, direction: Direction) -> None:
    """`ValueError` unless `direction` was found in a model of this one's family, at sites that this one has."""
    require_bottleneck(model)
    if direction.source.family != model_family(model):
        raise ValueError(
            f'"{direction.name}" was found in another kind of model: got {direction.source.family}, wanted '
            f"{model_family(model)}. Find it again with this model, or load the model it was found in."
        )
    require_sites(model, direction.sites, f'"{direction.name}"')


Joined = Callable[[SitePatch, SitePatch], SitePatch | None]
"""A patch that does what two do, one after the other; None where there is no such patch."""


def patched(model, patches: Mapping[str, SitePatch], joined: Joined = lambda before, after: None):
    """A clone of `model` with one more patch at each of the sites, or with it `joined` to the one that comes last."""
    patched = wrapped(model)
    hooks = patched.model_options["transformer_options"].get("patches", {})
    if MIDDLE in patches:
        *others, last = hooks.get("middle_block_after_patch", [None])
        both = joined(last.patch, patches[MIDDLE]) if isinstance(last, _AtMiddle) else None
        if both:
            hooks["middle_block_after_patch"] = [*others, _AtMiddle(both)]
        else:
            patched.set_model_middle_block_after_patch(_AtMiddle(patches[MIDDLE]))
    outputs = {decoder_block(site): patch for site, patch in patches.items() if site != MIDDLE}
    if outputs:
        *others, last = hooks.get("output_block_patch", [None])
        there = last.patches if isinstance(last, _AtOutputs) else {}
        both = {number: joined(there[number], patch) for number, patch in outputs.items() if number in there}
        if there and all(both.values()):
            hooks["output_block_patch"] = [*others, _AtOutputs({**there, **outputs, **both})]
        else:
            patched.set_model_output_block_patch(_AtOutputs(outputs))
    return patched


def patches_of(model_options: dict) -> Iterator[SitePatch]:
    """The patches that `patched` put there."""
    patches = model_options["transformer_options"].get("patches", {})
    for each in (*patches.get("middle_block_after_patch", ()), *patches.get("output_block_patch", ())):
        if isinstance(each, _AtMiddle):
            yield each.patch
        elif isinstance(each, _AtOutputs):
            yield from each.patches.values()


@dataclass(frozen=True, eq=False)
class _AtMiddle:
    """It has no `.to`: ComfyUI would call that with the model's dtype, and cast a float32 direction for good."""

    patch: SitePatch

    def __call__(self, args: dict) -> dict:
        call = SiteCall(MIDDLE, args["h"], args["x"], args["timesteps"], args["transformer_options"])
        return {"h": self.patch(call)}


@dataclass(frozen=True, eq=False)
class _AtOutputs:
    patches: Mapping[int, SitePatch]
    """By the number of the block that h enters."""

    @property
    def numbers(self) -> frozenset[int]:
        """At which blocks it acts; a UNet that offers its levels alone asks for this."""
        return frozenset(self.patches)

    def __call__(self, h: Tensor, skip: Tensor, options: dict) -> tuple[Tensor, Tensor]:
        number = options["block"][1]
        if number not in self.patches:
            return h, skip
        x, timesteps = options[_CALL]
        return self.patches[number](SiteCall(f"output.{number}", h, x, timesteps, options)), skip


def wrapped(model):
    """A clone of `model` that runs uncompiled, and whose patches know their input, timestep and prompts."""
    wrapped = model.clone()
    for kind, wrapper in WRAPPERS:
        wrapped.add_wrapper_with_key(kind, "hspace", wrapper)
    return wrapped


def uncompiled(executor, x, t, c_concat, c_crossattn, control, transformer_options, **kwargs):
    """Calls a model that ComfyUI compiles as it was before: compiled, it keeps to the patches of its first call."""
    compiled = "torch.compile" in transformer_options["wrappers"][WrappersMP.APPLY_MODEL]
    with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)


def note_call(executor, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
    """Tells the patches of the decoder what only that of the middle block is told. Changes a copy."""
    options = {**(transformer_options or {}), _CALL: (x, timesteps)}
    return executor(x, timesteps, context, y, control, options, **kwargs)


def _unet(model):
    unet = model.get_model_object("diffusion_model")
    return getattr(unet, "_orig_mod", unet)  # past torch.compile


def _middle_block(unet):
    return unet.middle_block if isinstance(unet, UNetModel) else getattr(unet, "mid_block", None)


WRAPPERS = ((WrappersMP.APPLY_MODEL, uncompiled), (WrappersMP.DIFFUSION_MODEL, note_call), *NAMING)
