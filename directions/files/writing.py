"""Files that are whole or not there: written under another name, then renamed."""

import time
from collections.abc import Callable
from contextlib import suppress
from os import fsync
from pathlib import Path
from uuid import uuid4

from safetensors.torch import save
from torch import Tensor

from .untrusted import MAX_HEADER

HOUR = 3600.0


def write_whole(
    tensors: dict[str, Tensor],
    path: Path,
    metadata: dict[str, str],
    check: Callable[[Path], None] = lambda written: None,
) -> None:
    """Write a safetensors file under a temporary name of its own and rename it, so that no half file is ever seen.

    What `check` raises when it looks at the temporary file leaves everything as it was.
    """
    content = save(tensors, metadata)  # save_file would leave a file that only its owner can read
    header = int.from_bytes(content[:8], "little")
    if header > MAX_HEADER:
        raise ValueError(
            f"Could not write {path.name}: got a recipe and a thumbnail of {header} bytes, wanted at most "
            f"{MAX_HEADER}. Nothing was changed; combine fewer directions, or find them in smaller banks."
        )
    partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}.partial")  # another server may be writing this file too
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        with partial.open("xb") as file:  # x does not follow a link that lies there
            file.write(content)
            file.flush()
            fsync(file.fileno())  # else a power cut may leave the new name on disk and not what is in the file
        check(partial)
        partial.replace(path)
    except OSError as error:
        raise ValueError(
            f"Could not write {path.name}: {error}. Nothing was changed; free some disk space or check the "
            f"permissions of {path.parent}, then run again."
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _sweep(folder: Path) -> None:
    """Delete what killed runs have left in `folder`: whoever still writes has done so within the hour."""
    for left in folder.glob(".*.safetensors*.partial"):
        with suppress(OSError):
            if time.time() - left.lstat().st_mtime > HOUR:
                left.unlink()
