"""Measure Leakage, against a recomputation from its parts."""

import csv
import io
from dataclasses import replace

import pytest
import torch

pytestmark = pytest.mark.comfy

PICTURES, REPEATS, STEPS, FIRST_SEED = 4, 2, 2, 30
COLUMNS, STRENGTHS = ("smile", "age"), (1.0, 0.5)


@pytest.fixture(scope="module")
def judge(faces):
    return faces.module("nodes.host.classifier").load_classifier("demo attributes (built in)")


@pytest.fixture(scope="module")
def edits(faces):
    """The second leans on the first."""
    first, second = faces.direction("smile", 0), faces.direction("age", 1)
    return [first, (second + 0.5 * first).renamed("age")]


@pytest.fixture(scope="module")
def measure(faces, judge, edits):
    execute = faces.node("HSpaceLeakage").execute

    def measure(columns="", strengths="1, 0.5", pictures=PICTURES, repeats=REPEATS, batch_size=3, also=None, span=None):
        directions = {f"direction{i}": edit for i, edit in enumerate(edits)}
        return execute(
            faces.model, faces.empty, faces.empty, faces.euler, faces.sigmas(STEPS), faces.latent, faces.vae, judge,
            directions, columns, strengths, span or "whole trajectory", pictures, repeats, FIRST_SEED, batch_size, 1.0,
            also,
        ).result  # fmt: skip

    return measure


@pytest.fixture(scope="module")
def measured(measure):
    return measure()


def table_of(text):
    header, *rows = csv.reader(io.StringIO(text))
    assert header == ["side", "edit", "column", "change", "std"]
    return {tuple(row[:3]): row[3:] for row in rows}


def changes_by_hand(faces, judge, edit, strength, column):
    """One change for each repeat, each picture sampled alone."""
    host, sampling = faces.module("nodes.host"), faces.module("nodes.host.sampling")

    def scores(model, seed):
        latents = sampling.sample(
            model, positive=faces.empty, negative=faces.empty, cfg=1.0, sampler=faces.euler,
            sigmas=faces.sigmas(STEPS), latent=faces.latent, seeds=[seed], on_step=lambda x0: None,
        )  # fmt: skip
        return judge.scores(faces.vae.decode(latents))[0, judge.columns.index(column)]

    edited = host.inject(faces.model, edit, [strength])
    repeats = []
    for repeat in range(REPEATS):
        seeds = range(FIRST_SEED + repeat * PICTURES, FIRST_SEED + (repeat + 1) * PICTURES)
        plain, changed = (torch.stack([scores(model, seed) for seed in seeds]) for model in (faces.model, edited))
        repeats.append((changed.mean() - plain.mean()) / plain.std())
    return torch.stack(repeats)


def test_the_table_has_a_row_for_each_side_edit_and_column(measured):
    picture, text, info = measured
    rows = table_of(text)
    assert list(rows) == [(s, e, c) for s in ("before", "after") for e in COLUMNS for c in COLUMNS]
    assert len(text.splitlines()) == 1 + 8
    assert picture.ndim == 4
    assert picture.shape[0] == 1
    assert picture.shape[3] == 3
    assert 0 <= picture.min() < picture.max() <= 1
    assert "on target" in info


@pytest.mark.parametrize(
    ("side", "edit", "column"), [("before", "age", "smile"), ("before", "smile", "smile"), ("after", "age", "smile")]
)
def test_a_row_is_what_sampling_and_judging_by_hand_gives(faces, judge, edits, measured, side, edit, column):
    i = COLUMNS.index(edit)
    direction = edits[i]
    if side == "after":
        direction = faces.directions.orthogonalise(direction, [edits[1 - i]])
    expected = changes_by_hand(faces, judge, direction, STRENGTHS[i], column)
    mean, std = (float(entry) for entry in table_of(measured[1])[side, edit, column])
    assert expected.abs().max() > 0.01  # five times the tolerance
    # four digits are written; float32 in batches of another size, divided by the spread of four pictures
    assert mean == pytest.approx(expected.mean().item(), abs=2e-3)
    assert std == pytest.approx(expected.std().item(), abs=2e-3)


def test_the_table_does_not_depend_on_the_batch(measure, measured):
    for key, (mean, std) in table_of(measure(batch_size=4)[1]).items():
        before = table_of(measured[1])[key]
        # float32 in batches of another size, divided by the spread of four pictures
        assert float(mean) == pytest.approx(float(before[0]), abs=2e-3)
        assert float(std) == pytest.approx(float(before[1]), abs=2e-3)


def test_what_is_also_protected_changes_the_table_after_and_not_before(faces, measure, measured, edits):
    also = {"direction0": (edits[0] + faces.direction("pose", 5)).renamed("pose"), "direction1": None}
    tables = table_of(measured[1]), table_of(measure(also=also)[1])
    changed = {key for key in tables[0] if abs(float(tables[0][key][0]) - float(tables[1][key][0])) > 2e-3}
    assert changed
    assert {side for side, _, _ in changed} == {"after"}


def test_one_repeat_has_no_spread(measure):
    rows = table_of(measure(repeats=1)[1])
    assert all(std == "" for _, std in rows.values())


@pytest.mark.parametrize("columns", ["smile", "smile, age, glasses", "smile, wings", "smile; age"])
def test_columns_that_do_not_fit_the_edits_are_refused(measure, columns):
    with pytest.raises(ValueError, match="Each edit needs a column of the classifier: got .* wanted 2 of .*smile"):
        measure(columns=columns)


def test_names_that_are_no_columns_are_refused_where_none_are_typed(faces, judge):
    columns_of = faces.module("nodes.combine.leakage").columns_of
    found = replace(faces.direction("my edit", 0), recipe='{"column": "smile"}')
    assert columns_of([found, replace(faces.direction("age", 1), recipe="3")], [], judge) == ["smile", "age"]
    with pytest.raises(ValueError, match="got my edit, age for 2 directions"):
        columns_of([faces.direction("my edit", 0), faces.direction("age", 1)], [], judge)


def test_the_wrong_number_of_strengths_is_refused(measure):
    with pytest.raises(ValueError, match="got 3, wanted 1 or 2"):
        measure(strengths="1, 2, 3")
