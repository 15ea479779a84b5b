"""Digests of what goes into a sampling call, so that a bank is reused only for the very same recipe."""

import hashlib
import inspect
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import partial
from pathlib import PurePath
from types import FunctionType, MethodType, ModuleType
from uuid import UUID

import comfy.utils
import numpy as np
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.torch_helpers.torch_compile import COMPILE_KEY, TORCH_COMPILE_KWARGS
from torch import Tensor

SAMPLES_PER_TENSOR = 256


def weights_fingerprint(model) -> str:
    """Digest of a model's own weights, whether or not it is loaded, compiled or has LoRAs applied to it just now."""
    prefix = "diffusion_model." if hasattr(model.model, "diffusion_model") else ""
    weights = {
        name.removeprefix(prefix): weight for name, weight in _own_weights(model).items() if name.startswith(prefix)
    }
    parts = []
    for name, weight in sorted(weights.items()):
        parts.append(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        parts.append(_sampled(weight))
    return _hash(*parts)


def model_digest(model) -> str:
    """Digest of everything on a model that changes what it predicts: weights, LoRAs, patches and their settings.

    Not whether it is compiled, and nothing that changes while it is loaded or offloaded.
    """
    return _model_digest(model, ChainMap())


def digest(value: object) -> str:
    """Digest of a nested value by its contents: tensors, containers, objects, functions and what they close over."""
    return _digest(value, ChainMap())


def _model_digest(model, known: ChainMap[int, str]) -> str:
    own = dict(_own_modules(model))
    names = {id(module): f"the model's own {name}" for name, module in own.items()}
    patches = model.object_patches.items()
    settings = {
        "patches": model.patches,
        "object_patches": {k: each for k, each in patches if k not in own or _uncompiled(each) is not own[k]},
        "model_options": {k: entry for k, entry in model.model_options.items() if k != TORCH_COMPILE_KWARGS},
        "wrappers": _without_compilation(model.wrappers),
        "callbacks": model.callbacks,
        "injections": model.injections,
        "attachments": model.attachments,
    }
    sampling = _digest(own.get("model_sampling"), known)
    return _combined([_digest(weights_fingerprint(model), known), sampling, _digest(settings, known.new_child(names))])


def _own_modules(model) -> Iterator[tuple[str, torch.nn.Module]]:
    """A model's modules by name, as they are without its patches and uncompiled."""
    replaced = _replaced(model)
    for name, module in model.model.named_modules():
        if not _belongs(name, replaced):
            yield _uncompiled_name(name), _uncompiled(module)
    for place, module in replaced.items():
        yield from module.named_modules(prefix=place)


def _own_weights(model) -> dict[str, Tensor]:
    """A model's weights by name, as they were before it was loaded and patched."""
    replaced, weights = _replaced(model), {}
    untouched = {name: backup.weight for name, backup in model.backup.items()} | model.backup_buffers
    for loaded, weight in model.model.state_dict().items():
        if not _belongs(loaded, replaced):
            name = _uncompiled_name(loaded)
            weights[name] = untouched.get(name, weight)
    for place, module in replaced.items():
        weights |= module.state_dict(prefix=f"{place}.")
    return weights


def _replaced(model) -> dict[str, torch.nn.Module]:
    """What stands aside while a loaded model has others of its patches in their places."""
    return {
        place: module
        for place, module in model.object_patches_backup.items()
        if isinstance(module, torch.nn.Module) and _uncompiled(comfy.utils.get_attr(model.model, place)) is not module
    }


def _belongs(name: str, places: Iterable[str]) -> bool:
    return any(f"{name}.".startswith(f"{place}.") for place in places)


def _uncompiled(value: object) -> object:
    return getattr(value, "_orig_mod", value) if isinstance(value, torch.nn.Module) else value


def _uncompiled_name(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def _without_compilation(wrappers: Mapping[str, Mapping[str, list]]) -> dict[str, dict[str, list]]:
    kept = {kind: {k: each for k, each in keyed.items() if k != COMPILE_KEY} for kind, keyed in wrappers.items()}
    return {kind: keyed for kind, keyed in kept.items() if keyed}


def _digest(value: object, known: ChainMap[int, str]) -> str:
    """`known` are objects by their id that have a name already: a model's own modules, and what `value` is part of."""
    value = _uncompiled(value)
    if id(value) in known:
        return known[id(value)]
    known = known.new_child({id(value): "itself"})
    match value:
        case None | bool() | int() | float() | str() | bytes() | Enum() | torch.dtype() | torch.device() | PurePath():
            return _hash(repr(value).encode())
        case UUID():
            return "uuid"
        case ModuleType():
            return _hash(value.__name__.encode())
        case type():
            return _hash(f"{value.__module__}.{value.__qualname__}".encode())
        case Tensor():
            return _hash(f"{tuple(value.shape)} {value.dtype}".encode(), _sampled(value, every=True))
        case np.ndarray():
            return _hash(f"{value.shape} {value.dtype}".encode(), value.tobytes())
        case Mapping():
            pairs = [(_digest(key, known), _digest(entry, known)) for key, entry in value.items()]
            return _combined(sorted(pairs))
        case list() | tuple():
            return _combined([_digest(entry, known) for entry in value])
        case set() | frozenset():
            return _combined(sorted(_digest(entry, known) for entry in value))
        case ModelPatcher():
            return _model_digest(value, known)
    return _digest(_parts(value), known)


def _parts(value: object) -> list:
    """What an object, module or function is made of."""
    match value:
        case torch.nn.Module():
            plain = {name: entry for name, entry in vars(value).items() if isinstance(entry, bool | int | float | str)}
            return [list(type(value).__mro__), plain, value.state_dict()]
        case partial():
            return [value.func, value.args, value.keywords]
        case MethodType():
            return [value.__func__, value.__self__]
        case FunctionType():
            closed_over = inspect.getclosurevars(value).nonlocals
            return [value.__module__, value.__qualname__, closed_over, value.__defaults__, value.__kwdefaults__]
    slots = {name: getattr(value, name, None) for name in getattr(type(value), "__slots__", ())}
    return [type(value), slots, getattr(value, "__dict__", None)]


def _sampled(tensor: Tensor, *, every: bool = False) -> bytes:
    """The bytes of a tensor, or of evenly spaced entries of it: a changed checkpoint differs nearly everywhere."""
    flat = tensor.detach().flatten()
    stride = 1 if every else max(1, len(flat) // SAMPLES_PER_TENSOR)
    return flat[::stride].contiguous().cpu().view(torch.uint8).numpy().tobytes()


def _combined(digests: list) -> str:
    return _hash(repr(digests).encode())


def _hash(*parts: bytes) -> str:
    state = hashlib.blake2b(digest_size=8)
    for part in parts:
        state.update(len(part).to_bytes(8, "little") + part)
    return state.hexdigest()
