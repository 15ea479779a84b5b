"""Digests of what goes into a sampling call, so that a bank is reused only for the very same recipe."""

import hashlib
import inspect
from collections.abc import Mapping
from enum import Enum
from functools import partial
from pathlib import PurePath
from types import FunctionType, MethodType, ModuleType
from uuid import UUID

import numpy as np
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

SAMPLES_PER_TENSOR = 256


def weights_fingerprint(model) -> str:
    """Digest of a model's own weights, the same whether or not LoRAs are applied to them at the moment."""
    untouched = {name: backup.weight for name, backup in model.backup.items()}
    weights = getattr(model.model, "diffusion_model", model.model).state_dict()
    parts = []
    for name in sorted(weights):
        weight = untouched.get(f"diffusion_model.{name}", weights[name])
        parts.append(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        parts.append(_sampled(weight))
    return _hash(*parts)


def model_digest(model) -> str:
    """Digest of everything on a model that changes what it predicts: weights, LoRAs, patches and their settings."""
    return _model_digest(model, ())


def digest(value: object) -> str:
    """Digest of a nested value by its contents: tensors, containers, objects, functions and what they close over."""
    return _digest(value, ())


def _model_digest(model, inside: tuple[int, ...]) -> str:
    names = ("patches", "object_patches", "model_options", "wrappers", "callbacks", "injections", "attachments")
    settings = {name: getattr(model, name, None) for name in names}
    return _digest([weights_fingerprint(model), getattr(model.model, "model_sampling", None), settings], inside)


def _digest(value: object, inside: tuple[int, ...]) -> str:
    if id(value) in inside:
        return "itself"
    inside = (*inside, id(value))
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
            pairs = [(_digest(key, inside), _digest(entry, inside)) for key, entry in value.items()]
            return _hash(repr(sorted(pairs)).encode())
        case list() | tuple():
            return _hash(repr([_digest(entry, inside) for entry in value]).encode())
        case set() | frozenset():
            return _hash(repr(sorted(_digest(entry, inside) for entry in value)).encode())
        case ModelPatcher():
            return _model_digest(value, inside)
    return _digest(_parts(value), inside)


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


def _hash(*parts: bytes) -> str:
    state = hashlib.blake2b(digest_size=8)
    for part in parts:
        state.update(len(part).to_bytes(8, "little") + part)
    return state.hexdigest()
