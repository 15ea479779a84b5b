"""Digests of what goes into a sampling call, so that a bank is reused only for the very same recipe."""

import dataclasses
import hashlib
from collections.abc import Mapping
from types import FunctionType, MethodType
from uuid import UUID

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

SAMPLES_PER_TENSOR = 256


def weights_fingerprint(model) -> str:
    """Digest of a model's own weights, the same whether or not LoRAs are applied to them at the moment."""
    untouched = {name: backup.weight for name, backup in model.backup.items()}
    weights = model.model.diffusion_model.state_dict()
    parts = []
    for name in sorted(weights):
        weight = untouched.get(f"diffusion_model.{name}", weights[name])
        parts.append(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        parts.append(_sampled(weight))
    return _hash(*parts)


def model_digest(model) -> str:
    """Digest of everything on a model that changes what it predicts: weights, LoRAs, patches and their settings."""
    return digest([weights_fingerprint(model), model.patches, model.object_patches, model.model_options])


def digest(value: object) -> str:
    """Digest of a nested value by its contents: tensors, containers, objects, functions and what they close over."""
    return _digest(value, ())


def _digest(value: object, inside: tuple[int, ...]) -> str:
    if id(value) in inside:
        return "itself"
    inside = (*inside, id(value))
    match value:
        case None | bool() | int() | float() | str() | bytes():
            return _hash(repr(value).encode())
        case Tensor():
            return _hash(f"{tuple(value.shape)} {value.dtype}".encode(), _sampled(value, every=True))
        case Mapping():
            entries = sorted((str(key), _digest(entry, inside)) for key, entry in value.items())
            return _hash(repr(entries).encode())
        case list() | tuple():
            return _hash(repr([_digest(entry, inside) for entry in value]).encode())
        case set() | frozenset():
            return _hash(repr(sorted(_digest(entry, inside) for entry in value)).encode())
        case UUID():
            return "uuid"
        case ModelPatcher():
            return model_digest(value)
        case torch.nn.Module():
            return _digest([type(value).__qualname__, value.state_dict()], inside)
        case MethodType():
            return _digest([value.__func__, value.__self__], inside)
        case FunctionType():
            closed_over = [cell.cell_contents for cell in value.__closure__ or ()]
            return _digest([value.__module__, value.__qualname__, closed_over, value.__defaults__], inside)
        case type():
            return _hash(f"{value.__module__}.{value.__qualname__}".encode())
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _digest([type(value), fields], inside)
    return _digest([type(value), getattr(value, "__dict__", None)], inside)


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
