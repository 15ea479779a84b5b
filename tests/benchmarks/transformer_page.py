"""docs/transformers.md: its words from docs/transformers.head.md, its table from docs/transformers.json."""

import json

from prompted_page import DOCS, dials
from results import remember

METHODS = "methods "


def keep(part: str, result: dict) -> None:
    """Put one part into the figures, and all of them into the page."""
    remember(DOCS / "transformers.json", part, result)
    write_page()


def write_page() -> None:
    results = json.loads((DOCS / "transformers.json").read_text(encoding="utf-8"))
    text = (DOCS / "transformers.head.md").read_text(encoding="utf-8")
    table = dials(results, METHODS, cost=True)
    (DOCS / "transformers.md").write_text(text.replace("<!-- methods -->", table), encoding="utf-8")
