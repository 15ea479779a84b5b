"""How a patch gets to its site. Only this file knows ComfyUI's hooks."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...directions import MIDDLE
from .branches import NAMING
from .compilation import compiled_by_blocks, uncompiled
from .sites import decoder_block

_CALL = "hspace_call"


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


def wrapped(model, *, differentiated: bool = False):
    """A clone of `model` whose patches know their input, timestep and prompts. For derivatives it runs uncompiled."""
    wrapped = model.clone()
    for kind, wrapper in (*WRAPPERS, (WrappersMP.OUTER_SAMPLE, uncompiled if differentiated else compiled_by_blocks)):
        if wrapper not in wrapped.get_wrappers(kind, "hspace"):
            wrapped.add_wrapper_with_key(kind, "hspace", wrapper)
    return wrapped


def note_call(executor, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
    """Tells the patches of the decoder what only that of the middle block is told. Changes a copy."""
    options = {**(transformer_options or {}), _CALL: (x, timesteps)}
    return executor(x, timesteps, context, y, control, options, **kwargs)


WRAPPERS = ((WrappersMP.DIFFUSION_MODEL, note_call), *NAMING)
