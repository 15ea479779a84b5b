"""The readers of directions, banks and scores under atheris, which steers by what code a file reaches.

    python -m pip install atheris        # into an environment of its own that also has torch and safetensors
    python tests/fuzz/atheris_readers.py -max_total_time=300

Stops at the first file that is answered otherwise than by a valid value or a `ValueError`, and writes it down as
libFuzzer does. Atheris is not among the requirements: it has no wheels for every Python that the pack runs on.
"""

import sys
import tempfile
from pathlib import Path
from random import Random

import atheris

sys.path += [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

with atheris.instrument_imports(include=["directions"]):
    from mutants import clear, readers

folder = tempfile.TemporaryDirectory(prefix="hspace-fuzz-")
TARGETS = list(readers(Path(folder.name)).values())
counts = {target.name: [0, 0] for target in TARGETS}


def mutated(data: bytes, max_size: int, seed: int) -> bytes:
    """A lie about a whole file, or a change that libFuzzer likes. The first byte says which reader is meant."""
    random = Random(seed)  # noqa: S311, no secret
    number = data[0] % len(TARGETS) if data and random.random() < 0.8 else random.randrange(len(TARGETS))
    target = TARGETS[number]
    content = target.whole if len(data) < 9 or random.random() < 0.2 else data[1:]
    if random.random() < 0.5:
        try:
            content = target.mutate(random, content)
        except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):  # no longer a file to lie about
            content = target.mutate(random, target.whole)
    else:
        content = atheris.Mutate(content, max_size - 1)
    return (bytes([number]) + content)[:max_size]


def one(data: bytes) -> None:
    if not data:
        return
    target = TARGETS[data[0] % len(TARGETS)]
    clear(target.file)
    target.file.write_bytes(data[1:])
    counts[target.name][bool(target.refusal())] += 1
    if sum(map(sum, counts.values())) % 10_000 == 0:
        print({name: f"{refused} refused, {accepted} accepted" for name, (accepted, refused) in counts.items()})


if __name__ == "__main__":
    options = ["-max_len=20000", "-timeout=10", "-rss_limit_mb=4096", *sys.argv[1:]]
    atheris.Setup([sys.argv[0], *options], one, custom_mutator=mutated)
    atheris.Fuzz()
