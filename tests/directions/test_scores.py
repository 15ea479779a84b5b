"""Scores, and the files they are read from: whatever the bytes, the reader returns scores or says `ValueError`."""

import json

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from planted import ATTRIBUTES, bank, scores, trajectories

from directions import Scores, read_scores
from directions.banks import score_file


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A bank of eight pictures, seeds 0 to 7."""
    return bank(tmp_path_factory.mktemp("bank"), trajectories(8)[0])


def read(tmp_path, content, recorded, name="scores.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_scores(path, recorded)


def test_a_column_is_found_by_its_name(recorded):
    values = torch.arange(24.0).reshape(8, 3)
    assert torch.equal(scores(recorded, values).column("age"), values[:, 1])


def test_an_unknown_column_names_those_there_are(recorded):
    with pytest.raises(ValueError, match='no column "hat": the scores hold smile, age, glasses'):
        scores(recorded, torch.zeros(8, 3)).column("hat")


def test_a_constant_column_tells_nothing_apart(recorded):
    values = torch.arange(24.0).reshape(8, 3)
    values[:, 1] = 0.5
    assert torch.equal(scores(recorded, values).column("age"), values[:, 1])
    with pytest.raises(ValueError, match='Column "age" is 0.5 for all 8 pictures'):
        scores(recorded, values).varied_column("age")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_no_number_is_refused_with_its_place(recorded, bad):
    values = torch.zeros(8, 3)
    values[5, 2] = bad
    with pytest.raises(ValueError, match=f'got {bad} in column "glasses" for the picture of seed 5'):
        scores(recorded, values)


def test_a_seed_or_a_column_twice_is_refused(recorded):
    with pytest.raises(ValueError, match="hold seed 4 twice"):
        scores(recorded, torch.zeros(8, 3), seeds=(0, 1, 2, 3, 4, 4, 5, 6))
    with pytest.raises(ValueError, match="hold column 'smile' twice"):
        scores(recorded, torch.zeros(8, 3), ("smile", "age", "smile"))


@pytest.mark.parametrize("shape", [(7, 3), (8, 2), (24,), (8, 3, 1)])
def test_scores_need_a_row_for_each_picture_and_a_column_for_each_name(recorded, shape):
    with pytest.raises(ValueError, match=r"wanted \(8, 3\)"):
        scores(recorded, torch.zeros(shape))


def test_scores_without_rows_or_columns_are_refused(recorded):
    with pytest.raises(ValueError, match="neither of them 0"):
        Scores(ATTRIBUTES, torch.zeros(0, 3), (), recorded.recipe, "planted")
    with pytest.raises(ValueError, match="neither of them 0"):
        Scores((), torch.zeros(8, 0), recorded.seeds, recorded.recipe, "planted")


def test_the_scored_pictures_come_in_the_order_of_the_rows(recorded):
    some = scores(recorded, torch.zeros(3, 3), seeds=(6, 0, 3))
    assert some.scored(recorded).seeds == (6, 0, 3)
    assert torch.equal(some.scored(recorded).h("middle", 1), recorded.h("middle", 1)[[6, 0, 3]])


def test_scores_of_another_bank_are_refused(recorded):
    with pytest.raises(ValueError, match="scores are of another bank"):
        scores(recorded, torch.zeros(8, 3), bank_recipe='{"model": "another"}').scored(recorded)


def test_a_summary_has_a_line_for_each_column(recorded):
    values = torch.tensor([[0.0, 1.0], [4.0, 1.0]])
    summary = scores(recorded, values, ("smile", "age"), seeds=(0, 1)).summary()
    assert summary == "smile: 0 to 4, mean 2\nage: 1 to 1, mean 1"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with byte order mark"])
def test_scores_come_back_from_csv_as_they_were_written(tmp_path, recorded, mark):
    content = mark + "smile, seed,Brille größer\r\n0.25,6,-1e-3\r\n-7,0,12\r\n".encode()
    got = read(tmp_path, content, recorded, "von Hand.CSV")
    assert (got.columns, got.seeds) == (("smile", "Brille größer"), (6, 0))
    assert torch.equal(got.values, torch.tensor([[0.25, -1e-3], [-7.0, 12.0]]))
    assert (got.bank_recipe, got.origin) == (recorded.recipe, "file von Hand.CSV")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with byte order mark"])
def test_scores_come_back_from_json_as_they_were_written(tmp_path, recorded, mark):
    rows = [{"seed": 6, "smile": 0.25, "größer": -1}, {"größer": "12", "seed": "0", "smile": -7}]
    got = read(tmp_path, mark + json.dumps(rows, ensure_ascii=False).encode(), recorded, "scores.JSON")
    assert (got.columns, got.seeds) == (("smile", "größer"), (6, 0))
    assert torch.equal(got.values, torch.tensor([[0.25, -1.0], [-7.0, 12.0]]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("seed,smile\n1,0.5\n8,0.5\n", "not in the bank: got seed 8, wanted seeds between 0 and 7"),
        ("seed,smile,age\n1,0.5,2\n2,0.5\n", 'Row 2 of scores.csv: got None in column "age", wanted a number'),
        ("seed,smile,age\n1,0.5,2\n2,,2\n", "Row 2 of scores.csv: got '' in column \"smile\", wanted a number"),
        ("seed,smile\n1,0.5\n2,much\n", "Row 2 of scores.csv: got 'much' in column \"smile\", wanted a number"),
        ("seed,smile\n1,0.5\n2,0.5,3\n", "Row 2 of scores.csv has the columns seed, smile, "),
        ("seed,smile\n1,0.5\n1,0.75\n", "hold seed 1 twice"),
        ("seed,smile,smile\n1,0.5,0.75\n", 'scores.csv has the column "smile" twice'),
        ("seed,smile, smile\n1,0.5,0.75\n", 'scores.csv has the column "smile" twice'),
        ("seed,smile\n1.5,0.5\n", "Row 1 of scores.csv: got seed '1.5', wanted a whole number"),
        ("seed,smile\n-1,0.5\n", "got seed '-1', wanted a whole number"),
        ("seed,smile\n\N{SUPERSCRIPT TWO},0.5\n", "wanted a whole number"),
        ("seed,smile\n1,nan\n", 'got nan in column "smile" for the picture of seed 1'),
        ("seed,smile\n1,1e300\n", 'got inf in column "smile" for the picture of seed 1'),
        ("smile,age\n1,0.5\n", "Row 1 of scores.csv has the columns smile, age: wanted seed and"),
        ("seed\n1\n", "wanted seed and at least one score"),
        ("seed,smile\n", "holds no scores: got no rows"),
        ("", "holds no scores: got no rows"),
        (b"seed,smile\n1,0.5\n2,\xff\n", "Can't read scores.csv: .*Save it again as UTF-8"),
        ("seed,smile\n1,0.5\n".encode("utf-16"), "Can't read scores.csv"),
        ('seed,smile\n1,"' + "9" * 200_000 + '"\n', "Can't read scores.csv: field larger"),
    ],
)
def test_a_wrong_csv_is_refused_with_what_is_wrong(tmp_path, recorded, content, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, content, recorded)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"seed": 1, "smile": 0.5}', "must be a list of objects"),
        ("[[1, 0.5]]", "must be a list of objects"),
        ("7", "must be a list of objects"),
        ("[]", "holds no scores: got no rows"),
        ("[{}]", "Row 1 of scores.json has the columns"),
        (
            '[{"seed": 1, "smile": 0.5}, {"seed": 2}]',
            "Row 2 of scores.json has the columns seed: wanted seed and smile",
        ),
        ('[{"seed": 1, "smile": null}]', "got None in column"),
        ('[{"seed": 1, "smile": true}]', "got True in column"),
        ('[{"seed": 1, "smile": [0.5]}]', r"got \[0.5\] in column"),
        ('[{"seed": true, "smile": 0.5}]', "got seed True, wanted a whole number"),
        ('[{"seed": 1.0, "smile": 0.5}]', "got seed 1.0, wanted a whole number"),
        ('[{"seed": 1, "smile": NaN}]', 'got nan in column "smile"'),
        ('[{"seed": 1, "smile": 1' + "0" * 400 + "}]", "Row 1 of scores.json: got 10+ in column"),
        ('[{"seed": 1, "smile": 0.5}', "Can't read scores.json"),
        (b'[{"seed": 1, "smile\xff": 0.5}]', "Can't read scores.json"),
        ("[" * 200_000, "Can't read scores.json"),
        ('[{"seed": 1, "smile": ' + "[" * 200_000 + "]" * 200_000 + "}]", "Can't read scores.json"),
    ],
)
def test_a_wrong_json_is_refused_with_what_is_wrong(tmp_path, recorded, content, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, content, recorded, "scores.json")


def test_a_huge_file_is_refused_before_it_is_read(tmp_path, recorded):
    path = tmp_path / "scores.csv"
    with path.open("wb") as file:
        file.truncate(score_file.MAX_BYTES + 1)  # sparse: takes no room
    with pytest.raises(ValueError, match=f"too large for scores: got {score_file.MAX_BYTES + 1} bytes"):
        read_scores(path, recorded)


few = settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


def read_or_refuse(tmp_path, content, recorded, name):
    try:
        got = read(tmp_path, content, recorded, name)
    except ValueError as error:
        assert len(str(error)) > 20  # a sentence
    else:
        assert isinstance(got, Scores)
        assert set(got.seeds) <= set(recorded.seeds)


text = st.text(alphabet='seed,smile"\r\n\0 -.e+0123456789_\N{SUPERSCRIPT TWO}\ufeff', max_size=60)


@pytest.mark.parametrize("name", ["scores.csv", "scores.json"])
@given(content=st.binary(max_size=80) | text.map(str.encode))
@few
def test_any_bytes_are_scores_or_refused(tmp_path, recorded, name, content):
    read_or_refuse(tmp_path, content, recorded, name)
    read_or_refuse(tmp_path, b"seed,smile\n1,0.5\n" + content, recorded, name)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
rows = st.lists(
    st.dictionaries(st.sampled_from(["seed", "smile", "age", ""]), st.integers(0, 9) | values, min_size=1), max_size=3
)


@given(value=rows | values)
@example(value=[{"seed": 10**400, "smile": 1}])
@example(value=[{"seed": 1, "smile": -(10**400)}])
@example(value=[{"seed": "9" * 5000, "smile": 1}])
@example(value=[{"seed": 1, "smile": "\ud800"}])
@few
def test_any_json_is_scores_or_refused(tmp_path, recorded, value):
    read_or_refuse(tmp_path, json.dumps(value), recorded, "scores.json")
