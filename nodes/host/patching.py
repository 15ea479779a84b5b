"""How a patch gets to its site. Only this file and `blocks` know ComfyUI's hooks."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...directions import MIDDLE
from .blocks import with_blocks_patched
from .branches import NAMING
from .clock import clock_of
from .compilation import compiled_by_blocks, uncompiled
from .site_call import SiteCall, SitePatch
from .sites import decoder_block, is_of_unet, is_unet, original

_CALL = "hspace_call"

Joined = Callable[[SitePatch, SitePatch], SitePatch | None]
"""A patch that does what two do, one after the other; None where there is no such patch."""


def patched(model, patches: Mapping[str, SitePatch], joined: Joined = lambda before, after: None):
    """A clone of `model` with one more patch at each of the sites, or with it `joined` to the one that comes last."""
    patched = wrapped(model)
    for kind in (_AtMiddle, _AtOutputs, _AtBlocks):
        own = {site: patch for site, patch in patches.items() if _kind_of(site) is kind}
        if own:
            _put(patched, kind, own, joined)
    return patched


def _put(model, kind: type["_AtSites"], patches: Mapping[str, SitePatch], joined: Joined) -> None:
    hooks = model.model_options["transformer_options"].get("patches", {})
    *others, last = hooks.get(kind.hook, [None])
    there = last.patches if isinstance(last, kind) else {}
    both = {site: joined(there[site], patch) for site, patch in patches.items() if site in there}
    if there and all(both.values()):
        hooks[kind.hook] = [*others, kind({**there, **patches, **both})]
    else:
        model.set_model_patch(kind(patches), kind.hook)


def patches_of(model_options: dict) -> Iterator[SitePatch]:
    """The patches that `patched` put there."""
    hooks = model_options["transformer_options"].get("patches", {})
    for kind in (_AtMiddle, _AtOutputs, _AtBlocks):
        for each in hooks.get(kind.hook, ()):
            if isinstance(each, kind):
                yield from each.patches.values()


@dataclass(frozen=True, eq=False)
class _AtSites:
    """It has no `.to`: ComfyUI would call that with the model's dtype, and cast a float32 direction for good."""

    patches: Mapping[str, SitePatch]
    """By site."""
    hook: ClassVar[str]
    """ComfyUI's name of it."""


class _AtMiddle(_AtSites):
    hook = "middle_block_after_patch"

    def __call__(self, args: dict) -> dict:
        call = SiteCall(MIDDLE, args["h"], args["x"], args["timesteps"], args["transformer_options"])
        return {"h": self.patches[MIDDLE](call)}


class _AtOutputs(_AtSites):
    hook = "output_block_patch"

    @property
    def numbers(self) -> frozenset[int]:
        """At which blocks it acts; a UNet that offers its levels alone asks for this."""
        return frozenset(map(decoder_block, self.patches))

    def __call__(self, h: Tensor, skip: Tensor, options: dict) -> tuple[Tensor, Tensor]:
        site = f"output.{options['block'][1]}"
        if site not in self.patches:
            return h, skip
        return self.patches[site](SiteCall(site, h, *options[_CALL], options)), skip


class _AtBlocks(_AtSites):
    """Of a transformer. ComfyUI does not call it: `note_call` puts its patches where they belong."""

    hook = "hspace_blocks"


def _kind_of(site: str) -> type[_AtSites]:
    if site == MIDDLE:
        return _AtMiddle
    return _AtOutputs if is_of_unet(site) else _AtBlocks


def wrapped(model, *, differentiated: bool = False):
    """A clone of `model` whose patches know their input, timestep and prompts. For derivatives it runs uncompiled."""
    wrapped = model.clone()
    wrappers = WRAPPERS if is_unet(model) else WRAPPERS_OF_TRANSFORMERS
    for kind, wrapper in (*wrappers, (WrappersMP.OUTER_SAMPLE, uncompiled if differentiated else compiled_by_blocks)):
        if wrapper not in wrapped.get_wrappers(kind, "hspace"):
            wrapped.add_wrapper_with_key(kind, "hspace", wrapper)
    return wrapped


def note_call(executor, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
    """Tells the patches of a UNet's decoder what only that of the middle block is told. Changes a copy."""
    options = {**(transformer_options or {}), _CALL: (x, timesteps)}
    return executor(x, timesteps, context, y, control, options, **kwargs)


def patch_blocks(executor, x, sigma, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
    """Gets the patches of a transformer to its blocks, for this call. Changes a copy."""
    model, options = executor.class_obj, transformer_options or {}
    at_blocks = options.get("patches", {}).get(_AtBlocks.hook, ())
    if at_blocks:
        timesteps = clock_of(model.model_sampling).timestep(sigma).float()
        patches = [each for at in at_blocks for each in at.patches.items()]
        options = with_blocks_patched(options, original(model.diffusion_model), x, timesteps, patches)
    return executor(x, sigma, c_concat, c_crossattn, control, options, **kwargs)


WRAPPERS = ((WrappersMP.DIFFUSION_MODEL, note_call), *NAMING)
"""By which the patches of a UNet know their input, timestep and prompts."""
WRAPPERS_OF_TRANSFORMERS = ((WrappersMP.APPLY_MODEL, patch_blocks), *NAMING)
