"""What people type into text fields."""

import importlib

import pytest

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def fields(pack):
    return importlib.import_module(f"{pack.__name__}.nodes.ui.text_fields")


@pytest.mark.parametrize("text", ["", "a, b", "1; 2", "nan", "1, inf"])
def test_strengths_that_are_no_numbers_are_refused(fields, text):
    with pytest.raises(ValueError, match="Can't read the strengths: got"):
        fields.parse_strengths(text)


def test_strengths_are_read_as_written(fields):
    assert fields.parse_strengths(" -3,0, .5 ,2e0,") == [-3.0, 0.0, 0.5, 2.0]


def test_numbers_and_ranges_are_read_once_and_in_order(fields):
    assert fields.parse_numbers("12-14, 3\n 13; 1", 20) == [1, 3, 12, 13, 14]
    assert fields.parse_numbers("", 20) == []


@pytest.mark.parametrize("text", ["0", "21", "19-21", "5-3"])
def test_numbers_that_are_not_on_the_sheet_are_refused(fields, text):
    with pytest.raises(ValueError, match="is not on the sheet: the pictures are numbered 1 to 20"):
        fields.parse_numbers(text, 20)


@pytest.mark.parametrize("text", ["a", "-1", "1.5", "3 4", "1-", "99999999999"])
def test_numbers_that_can_not_be_read_are_refused(fields, text):
    with pytest.raises(ValueError, match="Can't read the numbers: got"):
        fields.parse_numbers(text, 20)


def test_names_are_read_without_their_spaces(fields):
    assert fields.parse_names(" age, hair length ,,") == ["age", "hair length"]


RANGES = {"age": (0.0, 1.0), "smile": (-1.0, 1.0)}


def test_settings_are_names_with_values(fields):
    assert fields.parse_settings(" age = 0.8,smile=-1 ", RANGES) == {"age": 0.8, "smile": -1.0}
    assert fields.parse_settings("", RANGES) == {}


@pytest.mark.parametrize("text", ["hat = 1", "age", "age =", "age = old", "age = 1.1", "age = nan", "smile = 0 = 1"])
def test_settings_that_are_unknown_or_out_of_range_are_refused(fields, text):
    with pytest.raises(ValueError, match="got .* wanted"):
        fields.parse_settings(text, RANGES)


def test_pictures_of_a_lesson_are_told_every_scene_with_either_side_of_what_is_kept_equally_often(fields):
    scenes = fields.parse_scenes("a {smiling|frowning} man\na {smiling|frowning} woman")
    kept = fields.parse_scenes("{glasses|no glasses}\n{a beard|no beard}")
    told = [fields.lesson_prompts(scenes, kept, number) for number in range(16)]
    assert told[0] == told[1] == (
        "a man", "a smiling man, glasses, a beard", "a frowning man, glasses, a beard",
        ("a man, glasses", "a man, no glasses", "a man, a beard", "a man, no beard"),
    )  # fmt: skip
    assert len(set(told)) == 8
    assert fields.lesson_prompts(scenes, [], 2).neutral == "a woman"
