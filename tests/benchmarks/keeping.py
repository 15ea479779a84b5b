"""What a slider learnt from words brings along, and what is left where that is to be kept: a table of docs/prompted.md.

python -m pytest -s tests/benchmarks/keeping.py      (a quarter of an hour on two cores)
"""

import pytest
from dials import WORDS
from prompted_page import KEEPING, keep

STRENGTHS = (0.5, 1, 2)
PAIRS = {"age": "glasses", "beard": "hair_length"}

pytestmark = pytest.mark.comfy


@pytest.mark.parametrize(("attribute", "kept"), PAIRS.items())
def test_what_is_kept_stays(bench, attribute, kept):
    """At one standard deviation of the attribute: how much of the kept one comes along; and how far strength 1 goes."""
    columns, rows = [bench.columns.index(name) for name in (attribute, kept)], {}
    for name, sides in {"free": (), "kept": (WORDS[kept],)}.items():
        direction, _ = bench.learnt(attribute, kept=sides, without=[kept])
        judged = bench.judged(attribute, bench.injected(attribute, direction, STRENGTHS))
        model = bench.faces.host.inject(bench.faces.model, direction, [judged["strength"]])
        moved = bench.faces.scores(bench.drawn(attribute, model=model)) - bench.faces.scores(bench.plain(attribute))
        along = moved.mean(0)[columns] / bench.sd[columns]
        at_strength_1 = next(row[1] for row in judged["rows"] if row[0] == 1)
        rows[name] = {"off": judged["off"], "along": float(along[1] / along[0]), "strength 1": at_strength_1}
    print(attribute, kept, rows, flush=True)
    keep(f"{KEEPING}{attribute}, {kept}", rows)
