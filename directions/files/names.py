"""Names that a person typed, as files that every system can hold."""

import re
import unicodedata
from pathlib import Path

from .untrusted import brief, stays_inside

MAX_NAME = 240
"""Bytes of a name with its sub-folders: Windows allows 260 letters for the whole path."""

_DEVICE_NAMES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10)
}
_SLASHES = "\N{FRACTION SLASH}\N{DIVISION SLASH}\N{BIG SOLIDUS}\N{SET MINUS}\N{REVERSE SOLIDUS OPERATOR}"
"""Look like / and \\, and Windows makes some of them into those."""
_BLANKS = "\u034f\u115f\u1160\u2800\u3164\uffa0"
"""Letters and marks that show nothing."""


def safe_path(root: Path, name: str, suffix: str = ".safetensors") -> Path:
    """`root/name.safetensors` for a name that a person typed; "people/smile" makes a sub-folder.

    `ValueError` for a name that would leave `root`, that some operating system can't hold or reads as another one,
    or that doesn't show all its letters.
    """
    parts = name.removesuffix(suffix).split("/")
    for part in parts:
        problem = _problem(part)
        if problem:
            raise ValueError(
                f"{brief(repr(name))} can't be a file name: got {brief(repr(part))}, which {problem}. Use letters, "
                "digits, spaces, - and _, and / for a sub-folder."
            )
    if len(name.encode()) > MAX_NAME:
        raise ValueError(
            f"{brief(repr(name))} can't be a file name: got {len(name.encode())} bytes, wanted at most {MAX_NAME}. "
            "Choose a shorter one."
        )
    path = root.joinpath(*parts[:-1], parts[-1] + suffix)
    if not stays_inside(root, path):
        raise ValueError(f"{name!r} leads out of {root.name}: choose a name inside it.")
    return path


def _problem(part: str) -> str:
    """What is wrong with a part of a name; "" if nothing is."""
    plain = unicodedata.normalize("NFKC", part)  # some systems read full-width letters as these
    if not part or re.search(r'[<>:"|?*]', part) or set(plain) & set("/\\") or set(part) & set(_SLASHES):
        return "is empty or has a character that some system keeps for itself"
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") or letter in _BLANKS for letter in part):
        return "has a letter that is not seen"
    if part != part.strip(" .") or plain != plain.strip().strip("."):
        return "begins or ends with a space or a dot"
    if part != unicodedata.normalize("NFC", part):
        return "has letters put together from parts, so that two names look the same: type it again"
    if plain.split(".")[0].strip().lower() in _DEVICE_NAMES:
        return "is a device on Windows"
    return "" if len(part.encode()) <= 100 else "is longer than 100 bytes"
