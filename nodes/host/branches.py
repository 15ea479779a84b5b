"""Which side of the guidance the prompts of a batch are on, by the names that the guider gives them.

ComfyUI tells the UNet only where a prompt stood in a list, and guiders order it as they like: DualCFGGuider begins with
the negative prompt, DualModelGuider has two lists of one.
"""

from collections.abc import Sequence
from typing import Literal
from uuid import UUID

from comfy.patcher_extension import WrappersMP

Branch = Literal["positive", "negative"]
BRANCHES: dict[str, Branch] = {"positive": "positive", "negative": "negative"}
"""By the guider's names; its other prompts (DualCFGGuider's middle, PerpNegGuider's empty one) are on neither side."""
PLACES: dict[int, Branch] = {0: "positive", 1: "negative"}
"""By their place in ComfyUI's own list, where no guider gives names."""
_NAMES, _BRANCHES = "hspace_prompt_names", "hspace_branches"


def branches_of(options: dict) -> tuple[Branch | None, ...]:
    """Of each chunk of a batch, by its `transformer_options`; None is a guider's third prompt."""
    by_place = options.get(_BRANCHES)
    places = options["cond_or_uncond"]
    return tuple(map(PLACES.get, places)) if by_place is None else tuple(by_place[place] for place in places)


def chunk_of_branch(branches: Sequence[Branch | None], branch: Branch) -> int | None:
    """Which chunk of a batch is the `branch`'s; None if it is not in it. `ValueError` if several are."""
    chunks = [i for i, each in enumerate(branches) if each == branch]
    if len(chunks) > 1:
        raise ValueError(
            f"The {branch} conditioning has {len(chunks)} parts (areas or combined prompts), wanted one: use a single "
            "prompt."
        )
    return chunks[0] if chunks else None


def prompt_names(guider) -> dict[str, dict[UUID, str]]:
    """What to add to a sampling call's `model_options`; nothing for a guider that has names of another kind.

    A prompt is known by its first part: ComfyUI appends the areas of the other side to it, under their own uuids.
    """
    prompts = guider.original_conds
    if "positive" not in prompts:
        return {}
    return {_NAMES: {part["uuid"]: name for name, parts in prompts.items() for part in parts}}


def name_prompts(executor, x, timestep, model_options, seed):
    return executor(x, timestep, {**model_options, **prompt_names(executor.class_obj)}, seed)


def name_branches(executor, model, conds, x_in, timestep, model_options):
    names = model_options.get(_NAMES)
    if names is not None:
        branches = tuple(BRANCHES.get(names.get(parts[0]["uuid"])) if parts else None for parts in conds)
        options = {**model_options["transformer_options"], _BRANCHES: branches}
        model_options = {**model_options, "transformer_options": options}
    return executor(model, conds, x_in, timestep, model_options)


NAMING = ((WrappersMP.PREDICT_NOISE, name_prompts), (WrappersMP.CALC_COND_BATCH, name_branches))
"""The wrappers by which `branches_of` knows the names. They change copies, so that nothing is left behind."""
