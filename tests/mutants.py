"""Hostile files made from whole ones, and what a reader may answer to them: a valid value or `ValueError`."""

import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from planted import bank, direction, trajectories

from directions import Bank, Direction, Scores, load_direction, open_bank, read_scores, save_direction

Read = Callable[[Path], object]

SIZES = (0, 1, -1, 2, 5, 7, 1 << 31, 1 << 62, 1 << 63, (1 << 64) - 1, 10**13, 10**30, 1.5, "3", None, True, [1])
DTYPES = ("F32", "F16", "BF16", "F64", "I64", "U64", "I8", "BOOL", "C64", "F4", "F8_E8M0", "F6_E2M3", "", "f32", 7)
LENGTHS = (0, 1, 7, 8, 255, 1 << 16, (16 << 20) + 1, 10**8 + 1, 10**13, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
VALUES = (
    None, True, 0, -1, 1.5, 10**400, float("nan"), float("inf"), "", "x", "NaN", "\0", "\u202e", "\ud800", "x" * 3000,
    [], {}, [[]], {"": None}, [1, 2, 3], {"a": {"b": [1, None]}}, [64, 64], [0, 64], [True, 64], ["64", "64"],
)  # fmt: skip
TEXTS = (
    "", "null", "7", "NaN", "Infinity", "-0", "[64, 64]", "[64]", "[0, 0]", "[1e999, 1]", "{", '{"a": 1, "a": 2}',
    "[" * 380 + "]" * 380, "[" * 450 + "]" * 450, "[" * 5000, '{"a":' * 3000 + "1" + "}" * 3000, "9" * 4000, "9" * 5000,
    '"\\ud800"', "\0", "\ufeff{}", "hspace-direction", "hspace-bank", "1", "2", "x" * 5000,
)  # fmt: skip
TOKENS = (
    '"', '""', "\0", "\ufeff", "\r", "\n", "\r\n", ",", ";", "\t", " ", "-", "+", ".", "_", "1e999", "-1e999", "nan",
    "Infinity", "-inf", "0x10", "1_0", "9" * 25, "9" * 5000, "0" * 400, "seed", "smile", "\u2028", "\uff11", "\xb2",
    "'", "=1+1", "null", "true", "NaN", "{", "}", "[", "]", ":", '{"seed":', "[" * 3000, "]" * 3000, "\\ud800", "\\",
    '"seed":3,', '"smile":1e-400,', "18446744073709551615", "1" + "0" * 600, "e", '{"":0}',
)  # fmt: skip
FLOATS = (struct.pack("<f", value) for value in (float("nan"), float("inf"), -float("inf"), 3e38, 1e-45))
PATTERNS = (*FLOATS, b"\x00\x7c", b"\x00\xfc", b"\xff\xff\xff\xff\xff\xff\xff\xff", bytes(16))
PLACES = ("folder", "pipe", "loop", "endless", "nothing", "empty")


@dataclass(frozen=True)
class Reader:
    name: str
    file: Path
    """Where a mutant is put."""
    whole: bytes
    mutate: Callable[[Random, bytes], bytes]
    read: Read
    """The value, checked to be valid."""

    def accepts(self, random: Random) -> bool:
        """Whether a mutant was accepted. Fails if it was refused otherwise than in a sentence."""
        clear(self.file)
        if random.random() < 0.02:
            place(random.choice(PLACES), self.file)
        else:
            self.file.write_bytes(self.mutate(random, self.whole))
        return not self.refusal()

    def refusal(self) -> str:
        """Why what is there now was refused; "" if it was not."""
        try:
            self.read(self.file)
        except ValueError as error:
            assert type(error) is ValueError, f"{type(error).__name__} is no sentence: {error}"
            assert 20 < len(str(error)) < 3000, str(error)[:3000]
            return str(error)
        return ""


def readers(folder: Path) -> dict[str, Reader]:
    """The readers that need no ComfyUI, each with a whole file of its own."""
    save_direction(direction(recipe='{"find": "PCA", "seeds": [1, 2]}', author="Ada"), folder / "d.safetensors")
    recorded = bank(folder / "scored", trajectories(8)[0])
    shards = bank(folder / "bank", trajectories(3)[0], shard=2).shards
    csv = "seed,smile,age\r\n" + "".join(f"{seed},{seed / 8},{-seed}\r\n" for seed in range(8))
    rows = [{"seed": seed, "smile": seed / 8, "age": f"{-seed}"} for seed in range(8)]
    return {
        reader.name: reader
        for reader in (
            Reader("direction", folder / "d.safetensors", (folder / "d.safetensors").read_bytes(), mutant,
                   lambda path: checked_direction(load_direction(path))),
            Reader("bank", shards[1].path, shards[1].path.read_bytes(), mutant,
                   lambda path: checked_bank(open_bank(path.parent))),
            Reader("scores in CSV", folder / "scores.csv", csv.encode(), mutant_text,
                   lambda path: checked_scores(read_scores(path, recorded), recorded)),
            Reader("scores in JSON", folder / "scores.json", json.dumps(rows).encode(), mutant_text,
                   lambda path: checked_scores(read_scores(path, recorded), recorded)),
        )
    }  # fmt: skip


def checked_direction(found: Direction) -> Direction:
    for delta in found.deltas.values():
        assert delta.dtype == found.timesteps.dtype == torch.float32
        assert delta.ndim == 4 and delta.numel() and found.timesteps.shape == delta.shape[:1]
        assert delta.isfinite().all() and found.timesteps.isfinite().all() and (found.timesteps.diff() < 0).all()
    for site, spread in found.spreads.items():
        assert site in found.deltas and spread.shape == found.timesteps.shape and (spread > 0).all()
    source = found.source
    words = (found.name, found.method, found.unit, found.author, source.family, source.fingerprint, source.branch)
    assert all(isinstance(word, str) for word in (*words, found.recipe, *found.sites))
    assert all(type(side) is int and side > 0 for side in source.image_size)
    assert json.loads((found * 0.5).recipe)["times"]
    return found


def checked_bank(found: Bank) -> Bank:
    json.loads(found.recipe)
    assert found.seeds == tuple(sorted(set(found.seeds))) and all(0 <= seed < 1 << 64 for seed in found.seeds)
    assert found.timesteps.isfinite().all() and all(list(found.slices(site)) for site in found.shapes)
    for step in range(len(found.timesteps)):
        for site, shape in found.shapes.items():
            h = found.h(site, step)
            assert h.shape == (len(found), *shape) and h.numel() and h.isfinite().all()
    assert len(found.latents()) == len(found) and found.latents().isfinite().all()
    return found


def checked_scores(found: Scores, recorded: Bank) -> Scores:
    assert set(found.seeds) <= set(recorded.seeds) and len(set(found.seeds)) == len(found.seeds)
    assert found.values.shape == (len(found.seeds), len(found.columns)) and found.values.numel()
    assert found.values.dtype == torch.float32 and found.values.isfinite().all()
    assert all(isinstance(name, str) for name in found.columns)
    return found


def clear(file: Path) -> None:
    if file.is_dir() and not file.is_symlink():
        file.rmdir()
    else:
        file.unlink(missing_ok=True)


def place(what: str, file: Path) -> None:
    """Something else than a file of bytes."""
    if what == "folder":
        file.mkdir()
    elif what == "pipe":
        os.mkfifo(file)
    elif what in ("loop", "endless"):
        file.symlink_to(file if what == "loop" else "/dev/zero")
    elif what == "empty":
        file.touch()


# safetensors


def mutant(random: Random, whole: bytes) -> bytes:
    """A safetensors file with one to three lies in its header or its data."""
    size = int.from_bytes(whole[:8], "little")
    header, data = json.loads(whole[8 : 8 + size]), bytearray(whole[8 + size :])
    for _ in range(random.choice((1, 1, 2, 3))):
        random.choice(HEADER_LIES)(random, header)
    encoded = bytearray(json.dumps(header, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass"))
    length = None
    if random.random() < 0.3:
        random.choice((flip, insert_raw, repeat_key))(random, encoded)
    if random.random() < 0.1:
        length = random.choice((*LENGTHS, len(encoded) - 1, len(encoded) + 1, len(encoded) + len(data)))
    if random.random() < 0.4:
        random.choice((flip, poison, poison, shorten, lengthen))(random, data)
    return ((len(encoded) if length is None else length) % (1 << 64)).to_bytes(8, "little") + encoded + data


def a_tensor(random: Random, header: dict) -> dict:
    names = [name for name in header if name != "__metadata__" and isinstance(header[name], dict)]
    return header[random.choice(names)] if names else {}


def change_list(random: Random, values: object) -> object:
    """`values` with a number replaced, added, taken away or all exchanged."""
    if not isinstance(values, list) or random.random() < 0.1:
        return random.choice(VALUES)
    values, at = list(values), random.randrange(len(values) + 1)
    match random.randrange(4):
        case 0:
            values[at : at + 1] = [random.choice(SIZES)]
        case 1:
            values.insert(at, random.choice(SIZES))
        case 2:
            del values[at : at + 1]
        case 3:
            values = values[::-1] if random.random() < 0.5 else values * 40
    return values


def change_shape(random: Random, header: dict) -> None:
    tensor = a_tensor(random, header)
    tensor["shape"] = change_list(random, tensor.get("shape"))


def change_offsets(random: Random, header: dict) -> None:
    tensor = a_tensor(random, header)
    tensor["data_offsets"] = change_list(random, tensor.get("data_offsets"))


def same_place(random: Random, header: dict) -> None:
    a_tensor(random, header).update(a_tensor(random, header))


def change_dtype(random: Random, header: dict) -> None:
    """Another type, mostly of a size and a shape that fit the data."""
    tensor = a_tensor(random, header)
    old, tensor["dtype"] = tensor.get("dtype"), random.choice(DTYPES)
    width = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8, "U64": 8, "I8": 1, "BOOL": 1, "C64": 8}
    shape = tensor.get("shape")
    if random.random() < 0.7 and isinstance(shape, list) and shape and type(shape[-1]) is int:
        factor = width.get(old, 4) / width.get(tensor["dtype"], 4) if isinstance(tensor["dtype"], str) else 1
        tensor["shape"] = [*shape[:-1], int(shape[-1] * factor)]


def change_names(random: Random, header: dict) -> None:
    name = random.choice([*header, "more"])
    entry = header.pop(name, {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]})
    if random.random() < 0.6:
        header[
            random.choice(
                (
                    "delta.middle",
                    "delta.output.3",
                    "spread.middle",
                    "h.middle",
                    "seeds",
                    "",
                    "more",
                    "x" * 3000,
                    "\0",
                    "__metadata__",
                )
            )
        ] = entry


def change_metadata(random: Random, header: dict) -> None:
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or not metadata or random.random() < 0.05:
        header["__metadata__"] = random.choice(VALUES)
        return
    key = random.choice([*metadata, "hspace-bank", "format"])
    match random.randrange(4):
        case 0:
            metadata.pop(key, None)
        case 1:
            metadata[key] = random.choice(VALUES)
        case 2:
            metadata[key] = random.choice(TEXTS)
        case 3:
            metadata[key] = changed_json(random, metadata.get(key))


def changed_json(random: Random, text: object) -> str:
    """JSON with one of its entries, however deep, exchanged."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return random.choice(TEXTS)
    inner = value
    while isinstance(inner, dict | list) and inner:
        key = random.choice(list(inner)) if isinstance(inner, dict) else random.randrange(len(inner))
        if not isinstance(inner[key], dict | list) or not inner[key] or random.random() < 0.4:
            inner[key] = random.choice((*VALUES, *TEXTS))
            break
        inner = inner[key]
    return json.dumps(value)


HEADER_LIES = (
    change_shape, change_offsets, same_place, change_dtype, change_names, change_metadata, change_metadata,
    change_metadata, lambda random, header: None,
)  # fmt: skip


# bytes


def flip(random: Random, content: bytearray) -> None:
    for _ in range(random.choice((1, 1, 2, 8)) if content else 0):
        content[random.randrange(len(content))] = random.randrange(256)


def poison(random: Random, content: bytearray) -> None:
    """NaN, infinity or the like, where a number may stand."""
    at = random.randrange(len(content) // 2 + 1) * 2
    pattern = random.choice(PATTERNS)
    content[at : at + len(pattern)] = pattern[: len(content) - at]


def shorten(random: Random, content: bytearray) -> None:
    del content[random.randrange(len(content) + 1) :]


def lengthen(random: Random, content: bytearray) -> None:
    content += bytes(random.choice((1, 8, 4096)))


def insert_raw(random: Random, content: bytearray) -> None:
    at = random.randrange(len(content) + 1)
    content[at:at] = random.choice((b"\xff", b"\xc0\xaf", b"\0", b"NaN", b"{", b"[" * 300, b" " * 9, b'"', b"\\ud800"))


def repeat_key(random: Random, content: bytearray) -> None:
    """An entry of the header twice, or the whole of it."""
    content[1:1] = bytes(content[1:-1]) + b"," if random.random() < 0.5 else b'"delta":{"dtype":"F32"},'


def mutant_text(random: Random, whole: bytes) -> bytes:
    """CSV or JSON with one to four places spoilt."""
    content = bytearray(whole)
    for _ in range(random.choice((1, 1, 2, 4))):
        first, last = sorted(random.randrange(len(content) + 1) for _ in range(2))
        match random.randrange(7):
            case 0 | 1 | 2:
                content[first:first] = random.choice(TOKENS).encode()
            case 3:
                content[first : first + random.randrange(1, 12)] = random.choice(TOKENS).encode()
            case 4:
                content[first:first] = content[first:last]
            case 5:
                del content[first:last]
            case 6:
                flip(random, content)
    return bytes(content)
