"""The sites of a model and their names.

Of a UNet `middle` is what leaves the middle block, `output.N` what enters decoder block N, before its skip is joined.
Of a transformer `double.N` is what leaves block N of the picture, `double.N.text` of the text, and `single.N` what
leaves a block that has both in one row, of the picture.
"""

import re
from collections.abc import Sequence

from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel, Upsample

from ...directions import MIDDLE, Direction, brief
from .site_call import is_of_text
from .transformers import FAMILIES, block_sites, transformer_of

_OUTPUT = re.compile(r"output\.(\d+)")
BLOCKS = 8
"""Of a transformer's, so many are tried where one is looked for."""


def model_family(model) -> str:
    """ComfyUI's name of the model's family, such as "SD15", "SDXL" or "DDPM"."""
    return type(model.model.model_config).__name__


def sites_of(model) -> tuple[str, ...]:
    """What can be read and edited in a model, in the order in which it gets there; none in a family nobody knows."""
    unet = _unet(model)
    if transformer_of(unet):
        return block_sites(unet)
    if _middle_block(unet) is None:
        return ()
    outputs = range(1, len(unet.output_blocks)) if isinstance(unet, UNetModel) else unet.outputs
    return (MIDDLE, *(f"output.{number}" for number in outputs))


def levels_of(model) -> tuple[str, ...]:
    """The first site of each resolution, beginning with the bottleneck: in SD 1.5 `output.3`, `output.6` and so on.

    Of a transformer, which has one resolution, the picture at `BLOCKS` blocks from the first to the last.
    """
    unet = _unet(model)
    if transformer_of(unet):
        blocks = _picture_blocks(unet)
        last, count = len(blocks) - 1, min(BLOCKS, len(blocks))
        return tuple(blocks[round(last * place / max(1, count - 1))] for place in range(count))
    if not isinstance(unet, UNetModel):
        return (MIDDLE, *(f"output.{number}" for number in getattr(unet, "outputs", ())))
    ends = [number for number, block in enumerate(unet.output_blocks) if isinstance(block[-1], Upsample)]
    return (MIDDLE, *(f"output.{number + 1}" for number in ends))


def chosen_sites(model, names: Sequence[str]) -> tuple[str, ...]:
    """The sites of these names, in the model's order. "auto" alone means those in which its kind keeps its meaning.

    For a pixel DDPM that is the bottleneck; for a UNet that listens to words every level of the decoder as well; for a
    transformer the picture at the block in the middle. `ValueError` for a name that the model doesn't have.
    """
    if list(names) == ["auto"]:
        if not is_unet(model):
            blocks = _picture_blocks(_unet(model))
            return (blocks[(len(blocks) - 1) // 2],)
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


def is_unet(model) -> bool:
    return transformer_of(_unet(model)) is None


def is_of_unet(site: str) -> bool:
    return site == MIDDLE or _OUTPUT.fullmatch(site) is not None


def decoder_block(site: str) -> int:
    """The number of the decoder block that a site's h enters: 0 for the bottleneck."""
    return 0 if site == MIDDLE else int(_OUTPUT.fullmatch(site)[1])  # type: ignore[index]


def require_editable(model) -> None:
    """`ValueError` with the model's name unless it has sites."""
    if not sites_of(model):
        raise ValueError(
            f"{model_family(model)} ({type(_unet(model)).__name__}) has no place where ComfyUI lets it be edited. Use "
            "a UNet with a middle block (SD1.x, SD2.x, SDXL and its kin, or a pixel DDPM), or a transformer of a "
            f"family that this pack knows: {', '.join(sorted(each.__name__ for each in FAMILIES))}."
        )


def require_bottleneck(model, what: str) -> None:
    """`ValueError` with the model's name unless it is a UNet with a middle block, which `what` needs."""
    require_editable(model)
    if MIDDLE not in sites_of(model):
        raise ValueError(
            f"{what} needs a UNet: got {model_family(model)} ({type(_unet(model)).__name__}), a transformer, which has "
            "no bottleneck. Find directions for it from prompts, examples, scores, words or by PCA."
        )


def require_differentiable(model, what: str) -> None:
    """`ValueError` with the model's name unless derivatives pass its blocks, which `what` needs."""
    require_editable(model)
    family = transformer_of(_unet(model))
    if family and not family.differentiable:
        able = sorted(each.__name__ for each, family in FAMILIES.items() if family.differentiable)
        raise ValueError(
            f"{what} needs derivatives, which ComfyUI's {type(_unet(model)).__name__} has none of: got "
            f"{model_family(model)}, wanted a UNet or one of {', '.join(able)}. Find the direction from prompts: Find "
            "Direction (Words) takes the same scenes."
        )


def require_sites(model, sites: Sequence[str], what: str) -> None:
    """`ValueError` unless the model has all of the sites that `what` is about."""
    require_editable(model)
    there = sites_of(model)
    missing = [site for site in sites if site not in there]
    if missing:
        raise ValueError(
            f"{what} needs a site that {model_family(model)} doesn't have: got {brief(', '.join(missing))}, wanted "
            f"some of {', '.join(there)}. Find it again with this model."
        )


def require_fit(model, direction: Direction) -> None:
    """`ValueError` unless `direction` was found in a model of this one's family, at sites that this one has."""
    require_editable(model)
    if direction.source.family != model_family(model):
        raise ValueError(
            f'"{direction.name}" was found in another kind of model: got {direction.source.family}, wanted '
            f"{model_family(model)}. Find it again with this model, or load the model it was found in."
        )
    require_sites(model, direction.sites, f'"{direction.name}"')


def original(network):
    """What torch.compile was given, or `network` as it is."""
    return getattr(network, "_orig_mod", network)


def _unet(model):
    return original(model.get_model_object("diffusion_model"))


def _picture_blocks(transformer) -> list[str]:
    return [site for site in block_sites(transformer) if not is_of_text(site)]


def _middle_block(unet):
    return unet.middle_block if isinstance(unet, UNetModel) else getattr(unet, "mid_block", None)
