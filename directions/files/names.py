"""Names that a person typed, as files that every system can hold."""

import re
import unicodedata
from pathlib import Path

from pathvalidate import ValidationError, validate_filename

from .untrusted import brief, stays_inside

MAX_NAME = 240
"""Bytes of a name with its sub-folders: Windows allows 260 letters for the whole path."""
_BLANK = re.compile("FILLER|BLANK|JOINER")
"""In Unicode's names of letters that take up room and show nothing, or join others unseen."""
_KEPT = re.compile('[<>:"|?*]')
"""Windows keeps these for itself, but not their full-width forms, which Chinese is written with."""


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
    if not all(letter.isprintable() and not _BLANK.search(unicodedata.name(letter, "")) for letter in part):
        return "has a letter that is not seen"
    if part != unicodedata.normalize("NFC", part):
        return "has letters put together from parts, so that two names look the same: type it again"
    plain = unicodedata.normalize("NFKC", part)  # some systems read full-width letters as these
    if re.search(r"^\.| \.", plain):
        return "begins with a dot, or has a space before one"
    if len(part.encode()) > 100:
        return "is longer than 100 bytes"
    for form in (part, _KEPT.sub("_", plain)):
        try:
            validate_filename(form, platform="universal")
        except ValidationError as error:
            return f"some system refuses ({(error.description or error.reason.description).split('. ')[0]})"
    return ""
