"""Mark Examples and its contact sheet."""

import pytest
import torch

pytestmark = pytest.mark.comfy

BLUE, ORANGE = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)


@pytest.fixture(scope="module")
def mark(faces, bank):
    execute = faces.node("HSpaceMarkExamples").execute

    def mark(positive="", negative="", page=1, per_page=60, size=64):
        return execute(bank, faces.vae, positive, negative, page, per_page, size).result

    return mark


def colour_count(sheet, colour):
    return int((sheet[0].mul(255).round() == torch.tensor(colour)).all(-1).sum())


def place(sheet, picture):
    """Row and column at which the picture lies in the sheet, to a pixel's rounding."""
    rounded = picture.clamp(0, 1).mul(255).round().div(255).permute(2, 0, 1)
    strips = sheet[0].unfold(0, 64, 1).unfold(1, 64, 1)
    distance = (strips[..., ::8, ::8] - rounded[:, ::8, ::8]).abs().amax((2, 3, 4))
    found = (distance < 1e-6).nonzero().tolist()
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("sides", [("", ""), ("1, 2", ""), ("", "3"), (" \n", ",")])
def test_nothing_goes_on_until_both_sides_are_marked(mark, sides):
    from comfy_execution.graph import ExecutionBlocker

    scores, sheet = mark(*sides)
    assert isinstance(scores, ExecutionBlocker)
    assert scores.message is None  # waiting is no error
    assert sheet.shape[0] == 1


def test_marked_pictures_are_scored_one_and_zero_under_their_own_seeds(mark, bank):
    scores, _ = mark("2, 5-6\n11", "1; 3", page=2, per_page=5)  # marks on another page count too
    by_seed = dict(zip(scores.seeds, scores.column("marked").tolist(), strict=True))
    assert by_seed == {101: 1, 104: 1, 105: 1, 110: 1, 100: 0, 102: 0}
    assert scores.scored(bank).seeds == scores.seeds


def test_marks_become_the_mean_difference_of_what_was_marked(mark, faces, bank):
    scores, _ = mark("2, 5-6", "1, 3")
    found = faces.directions.find_from_scores(bank, scores, "marked", method="examples", examples=0)
    h = bank.h("middle", 1)
    expected = h[[1, 4, 5]].mean(0) - h[[0, 2]].mean(0)
    torch.testing.assert_close(found.direction.deltas["middle"][1], expected, atol=1e-5, rtol=1e-5)  # float32 sums


def test_a_picture_on_both_sides_is_refused(mark):
    with pytest.raises(ValueError, match="Picture 5 is marked as positive and as negative"):
        mark("2, 4-6", "1, 5")


@pytest.mark.parametrize("numbers", ["0", "13", "11-13", "-1", "5-4", "two", "1.5"])
def test_a_number_that_is_not_on_the_sheet_is_refused(mark, numbers):
    with pytest.raises(ValueError, match="not on the sheet|Can't read the numbers"):
        mark(numbers, "1")


def test_a_page_beyond_the_last_is_refused(mark):
    assert mark(page=3, per_page=5)[1].shape[0] == 1
    with pytest.raises(ValueError, match="no page 4: got 12 pictures, 5 on a page. Choose page 1 to 3"):
        mark(page=4, per_page=5)


def test_the_sheet_shows_each_picture_of_the_page_once_in_reading_order(mark, faces, bank):
    images = faces.vae.decode(bank.latents())
    _, sheet = mark()
    places = [place(sheet, image) for image in images]
    assert places == sorted(places)
    assert [row for row, _ in places] == [places[0][0]] * 10 + [places[10][0]] * 2
    _, second = mark(page=2, per_page=5)
    shown = [place(second, image) for image in images[5:10]]
    assert shown == sorted(shown)
    assert second.shape[2] < sheet.shape[2]
    with pytest.raises(AssertionError):
        place(second, images[4])


def test_a_mark_frames_its_own_picture_and_no_other(mark, faces, bank):
    images = faces.vae.decode(bank.latents())
    _, plain = mark()
    _, marked = mark("2", "11")
    assert colour_count(plain, BLUE) < 20
    assert colour_count(plain, ORANGE) < 20
    # a frame is two pixels wide around 64
    assert colour_count(marked, BLUE) > 4 * 2 * 64
    assert colour_count(marked, ORANGE) > 4 * 2 * 64
    assert [place(marked, image) for image in images] == [place(plain, image) for image in images]
    changed = (marked != plain).any(-1)[0]
    top, left = place(plain, images[1])
    assert changed[top - 1, left : left + 64].all()  # the frame
    top, left = place(plain, images[2])
    assert not changed[top - 2 : top + 66, left - 2 : left + 66].any()


def test_the_sheet_can_be_larger_than_the_pictures(mark):
    small, large = mark(size=64)[1], mark(size=128)[1]
    assert large.shape[2] > 1.8 * small.shape[2]
    assert 0 <= large.min() <= large.max() <= 1
