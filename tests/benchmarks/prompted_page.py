"""docs/prompted.md: its words from docs/prompted.head.md, its tables from docs/prompted.json.

peers.py, which_sites.py, levels.py and prompted_today.py write it anew with each of their results.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from results import remember

DOCS = Path(__file__).parents[2] / "docs"
PEERS, SITES, LEVELS, KEEPING = "peers ", "sites ", "levels, ", "keeping "
FINDERS, REAL = "bottleneck, ", "real pictures, "


def keep(part: str, result: dict) -> None:
    """Put one part into the figures, and all of them into the page."""
    remember(DOCS / "prompted.json", part, result)
    write_page()


def write_page() -> None:
    results = json.loads((DOCS / "prompted.json").read_text(encoding="utf-8"))
    text = (DOCS / "prompted.head.md").read_text(encoding="utf-8")
    tables = {
        "<!-- peers -->": dials(results, PEERS, cost=True),
        "<!-- sites -->": dials(results, SITES),
        "<!-- keeping -->": keeping(results),
        "<!-- settings -->": settings(results),
        "<!-- elsewhere -->": elsewhere(results),
        "<!-- independent -->": independent(results),
        "<!-- stacked -->": stacked(results),
        "<!-- components -->": components(results),
        "<!-- inverted -->": inverted(results),
        "<!-- finders -->": finders(results),
        "<!-- real -->": real(results),
    }
    for mark, table in tables.items():
        text = text.replace(mark, table)
    (DOCS / "prompted.md").write_text(text, encoding="utf-8")


def dials(results: Mapping[str, dict], kind: str, cost: bool = False) -> str:
    """A row for each method, a column for each attribute; the cost is that of the first attribute."""
    cells: dict[str, dict[str, dict]] = {}
    for name, each in results.items():
        if name.startswith(kind):
            attribute, _, method = name.removeprefix(kind).partition(", ")
            cells.setdefault(method, {})[attribute] = each
    attributes = list(dict.fromkeys(attribute for row in cells.values() for attribute in row))
    rows = [["what moves it", *map(_words, attributes), *(["seconds", "kB"] if cost else [])]]
    for method, found in cells.items():
        rows.append([method, *(_cell(found[name]) if name in found else "" for name in attributes)])
        if cost:
            first = found[attributes[0]]
            rows[-1] += [f"{first['seconds']:.0f}" if first["seconds"] else "-", f"{first['bytes'] / 1000:.0f}"]
    return _table(rows)


def _cell(found: Mapping[str, float]) -> str:
    """Reach; off and identity where it has moved by one standard deviation."""
    at_one = f"; {found['off']:.3f}, {found['identity']:.2f}" if "off" in found else ""
    return f"{found['reach']:.2f}{at_one}"


def keeping(results: Mapping[str, dict]) -> str:
    rows = [["learnt, and kept", "comes along: free", "kept", "off-target: free", "kept", "strength 1: free", "kept"]]
    for name, each in results.items():
        if name.startswith(KEEPING):
            free, kept = each["free"], each["kept"]
            cells = [
                f"{side[key]:+.{2 + (key == 'off')}f}"
                for key in ("along", "off", "strength 1")
                for side in (free, kept)
            ]
            rows.append([_words(name.removeprefix(KEEPING)), *cells])
    return _table(rows)


def settings(results: Mapping[str, dict]) -> str:
    """A row for each setting, a column for each attribute."""
    found = {name.rpartition(", ")[2]: each for name, each in results.items() if name.startswith(f"{LEVELS}other")}
    named = list(next(iter(found.values()), {}))
    rows = [[setting, *(f"{each[setting]:+.2f}" for each in found.values())] for setting in named]
    return _table([["drawn", *map(_words, found)], *rows])


def elsewhere(results: Mapping[str, dict]) -> str:
    """The slider, and beside it the word, for each shape of picture and under a LoRA."""
    start = f"{LEVELS}elsewhere, "
    found = {name.removeprefix(start): each for name, each in results.items() if name.startswith(start)}
    named = list(next(iter(found.values()), {}))
    cells = [[f"{each[name]['slider']:+.2f}, {each[name]['word']:+.2f}" for each in found.values()] for name in named]
    rows = [[name, *row] for name, row in zip(named, cells, strict=True)]
    return _table([["drawn", *map(_words, found)], *rows])


def independent(results: Mapping[str, dict]) -> str:
    rows = [["direction of", "itself, others: before", "after", "of the others stays"]]
    for attribute, each in results.get(f"{LEVELS}made independent", {}).items():
        pairs = [f"{each[when]['on']:+.2f}, {each[when]['off']:.3f}" for when in ("before", "after")]
        share = each["after"]["off"] / each["before"]["off"]
        rows.append([_words(attribute), *pairs, f"{share:.0%}"])
    return _table(rows)


def stacked(results: Mapping[str, dict]) -> str:
    shares = results.get(f"{LEVELS}stacked", {}).get("shares", {})
    return ", ".join(f"{_words(attribute)} {share:.2f}" for attribute, share in shares.items())


def components(results: Mapping[str, dict]) -> str:
    rows = [["component", "moves most steadily", "Spearman", "sd for a strength of 1"]]
    for number, each in enumerate(results.get(f"{LEVELS}components", {}).get("rows", []), 1):
        moved = f"{each['spearman']:+.2f}", f"{each['per unit']:+.2f}"
        rows.append([f"{number}", _words(each["attribute"]), *moved])
    return _table(rows)


def inverted(results: Mapping[str, dict]) -> str:
    rows = [["slider of", "real pictures", "generated", "share"]]
    for attribute, each in results.get(f"{LEVELS}real pictures", {}).items():
        share = each["real"] / each["generated"]
        rows.append([_words(attribute), f"{each['real']:+.2f}", f"{each['generated']:+.2f}", f"{share:.2f}"])
    return _table(rows)


def finders(results: Mapping[str, dict]) -> str:
    rows = [["found at the bottleneck by", "attribute", "strength 1", "strength 3"]]
    for name, each in results.items():
        if name.startswith(FINDERS):
            moved = each["moved"][each["attribute"]]
            sizes = [f"{value:+.2f}" for value in moved]
            rows.append([name.removeprefix(FINDERS), _words(each["attribute"]), *sizes])
    return _table(rows)


def real(results: Mapping[str, dict]) -> str:
    """A row for each way to invert: how the pictures come back, and how far a word and a direction move them."""
    found = {name.removeprefix(REAL): each for name, each in results.items() if name.startswith(REAL)}
    moved = next(iter(found.values()))["smile moved"]
    rows = [["16 pictures it has not made, inverted by", "come back", *(f"smile: {name}" for name in moved)]]
    for name, each in found.items():
        came_back = each["info"].rpartition(" ")[2]
        rows.append([name, came_back, *(f"{value:+.2f}" for value in each["smile moved"].values())])
    return _table(rows)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _table(rows: list[list[str]]) -> str:
    head, *body = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])
