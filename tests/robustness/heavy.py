"""Hostile files that try to fill the memory, read one by one in a process that may grow by `BOUND` and no more."""

import json
import os
import resource
import sys
import time
from pathlib import Path

sys.path += [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

from mutants import clear, readers  # noqa: E402, the path comes first

BOUND = 640 << 20
"""Bytes of addresses. The largest header or list of scores that is read, 16 MiB of JSON, takes up to 25 times that."""
FULL = (16 << 20) - 2000
"""Bytes: as much as is read of a header or of scores."""


def with_header(file: Path, header: dict | bytes, size: int = 0) -> None:
    """A safetensors file whose data are `size` zeros that take no room on disk."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(len(content).to_bytes(8, "little") + content)
    os.truncate(file, 8 + len(content) + size)


def tensor(shape: list[int], first: int = 0, dtype: str = "F32") -> dict:
    size = {"F32": 4, "F16": 2, "I64": 8}[dtype]
    for side in shape:
        size *= side
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, first + size]}


KINDS = {
    "direction": ("many tensors", "long shape", "long format", "claims ten terabytes", "deep recipe", "wide recipe",
                  "has a terabyte", "has four gibibytes"),
    "bank": ("wide shard", "many seeds"),
    "scores in CSV": ("CSV of commas", "CSV of short columns", "CSV of rows"),
    "scores in JSON": ("JSON of objects",),
}  # fmt: skip


def write(what: str, file: Path, whole: bytes) -> None:
    size = int.from_bytes(whole[:8], "little") if file.suffix == ".safetensors" else 0
    metadata = json.loads(whole[8 : 8 + size])["__metadata__"] if size else {}
    delta, steps = tensor([4, 6, 5, 5]), tensor([4], 2400)
    match what:
        case "many tensors":
            entry = b'"%x":{"dtype":"U8","shape":[],"data_offsets":[%d,%d]}'
            count = FULL // 66
            content = b"{" + b",".join(entry % (i, i, i + 1) for i in range(count)) + b"}"
            with_header(file, content[:-1] + b',"__metadata__":' + json.dumps(metadata).encode() + b"}", count)
        case "long shape":
            ones = [1] * (FULL // 3)
            with_header(file, {"__metadata__": metadata, "delta.middle": tensor(ones), "timesteps": tensor([1], 4)}, 8)
        case "long format":
            with_header(file, {"__metadata__": {"format": "x" * FULL}})
        case "claims ten terabytes":
            with_header(file, {"__metadata__": metadata, "delta.middle": tensor([10**13 // 4, 1, 1, 1])}, 100)
        case "deep recipe" | "wide recipe":
            recipe = "[" * (FULL // 2) + "]" * (FULL // 2) if what[0] == "d" else "[" + "{}," * (FULL // 3 - 2) + "{}]"
            with_header(
                file, {"__metadata__": metadata | {"recipe": recipe}, "delta.middle": delta, "timesteps": steps}, 2416
            )
        case "has a terabyte" | "has four gibibytes":
            count = 1 << 38 if "terabyte" in what else 1 << 30
            header = {
                "__metadata__": metadata,
                "delta.middle": tensor([1, count, 1, 1]),
                "timesteps": tensor([1], 4 * count),
            }
            with_header(file, header, 4 * count + 4)
        case "wide shard" | "many seeds":
            n, c = (1, 1 << 31) if what[0] == "w" else (1 << 24, 1)
            header, first = {"__metadata__": metadata}, 0
            for name, shape, dtype in (
                ("seeds", [n], "I64"),
                ("latents", [n, 1], "F32"),
                ("timesteps", [1], "F32"),
                ("h.middle", [n, 1, c, 1, 1], "F16"),
            ):
                header[name] = tensor(shape, first, dtype)
                first = header[name]["data_offsets"][1]
            with_header(file, header, first)
        case "CSV of commas":
            file.write_bytes(b"," * FULL)
        case "CSV of short columns":
            columns = ",".join(f"{i:x}" for i in range(FULL // 9))
            file.write_text(f"seed,{columns}\n1" + ",1" * (FULL // 9) + "\n")
        case "CSV of rows":
            file.write_bytes(b"seed,a\n" + b"1,2\n" * (FULL // 4))
        case "JSON of objects":
            file.write_bytes(b"[" + b"{}," * (FULL // 3) + b"{}]")


def status(name: str) -> int:
    """Bytes of this process: VmSize are its addresses, VmRSS what it uses now, VmHWM what it used at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    targets = readers(Path(sys.argv[1]))
    for target, what in ((targets[name], what) for name, kinds in KINDS.items() for what in kinds):
        clear(target.file)
        write(what, target.file, target.whole)
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again
        # Mapping a file is free, twice as safetensors does it: there it is what is touched that counts.
        limit = status("VmSize") + BOUND + 2 * target.file.stat().st_size
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        before, started = status("VmRSS"), time.perf_counter()
        answer = target.refusal()
        grown, seconds = (status("VmHWM") - before) >> 20, time.perf_counter() - started
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(f"{target.name}, {what}: {seconds:.2f} s, memory grew by {grown} MiB: {answer[:150] or 'accepted'}")
        assert grown < BOUND >> 20 and seconds < 60


if __name__ == "__main__":
    main()
