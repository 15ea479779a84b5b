import pytest
import torch

from directions import Leakage, change

BEFORE = torch.tensor([[[2.0, -1.0], [0.5, 1.0]], [[4.0, -3.0], [1.5, 3.0]]])
AFTER = torch.tensor([[[1.5, 0.5], [-0.5, 1.0]], [[2.5, -0.5], [0.5, 2.0]]])


def table(before=BEFORE, after=AFTER):
    return Leakage(("more smile", "older"), ("smile", "age"), before, after)


def test_a_change_is_counted_in_standard_deviations_of_the_unedited_pictures():
    plain = torch.tensor([[0.0, 10.0], [2.0, 10.0], [4.0, 16.0]])  # deviations 2 and sqrt(12)
    edited = plain + torch.tensor([3.0, -6.0])
    torch.testing.assert_close(change(edited, plain), torch.tensor([1.5, -6 / 12**0.5]).double())


def test_a_change_does_not_depend_on_the_spread_of_the_edited_pictures():
    plain = torch.tensor([[0.0], [2.0], [4.0]])
    assert change(torch.tensor([[5.0], [5.0], [5.0]]), plain).item() == 1.5


def test_tables_are_means_and_spreads_deviations_over_the_repeats():
    leakage = table()
    assert leakage.tables["before"].tolist() == [[3.0, -2.0], [1.0, 2.0]]
    assert leakage.tables["after"].tolist() == [[2.0, 0.0], [0.0, 1.5]]
    half = 0.5**0.5  # deviation of two numbers that are 1 apart
    torch.testing.assert_close(leakage.spreads["before"], torch.tensor([[2.0, 2.0], [1.0, 2.0]]) * half)
    torch.testing.assert_close(leakage.spreads["after"], torch.ones(2, 2) * half)


def test_on_and_off_target_are_told_apart_and_opposite_leaks_do_not_cancel():
    leakage = table()
    assert leakage.on_target() == {"before": 2.5, "after": 1.75}
    assert leakage.off_target() == {"before": 1.5, "after": 0.0}


def test_a_row_is_clear_only_where_its_own_column_changes_most():
    leaking = torch.tensor([[[1.0, -2.0], [0.5, -0.7]]])
    assert table(leaking, leaking.abs().flip(1)).clear_rows() == {"before": 1, "after": 1}
    assert table(leaking, AFTER[:1]).clear_rows() == {"before": 1, "after": 2}


def test_the_summary_tells_both_percentages():
    assert table().summary() == (
        "on target 2.50 to 1.75 (-30%), off target 1.50 to 0.00 (-100%) standard deviations; an edit changes its own "
        "column most in 2 of 2 rows before and 2 after."
    )
    assert "off target 0.00 to 1.50 (from nothing)" in table(AFTER, BEFORE).summary()


def test_rows_name_side_edit_and_column_of_each_number():
    rows = table().rows()
    assert [row[:4] for row in rows] == [
        ["before", "more smile", "smile", 3.0],
        ["before", "more smile", "age", -2.0],
        ["before", "older", "smile", 1.0],
        ["before", "older", "age", 2.0],
        ["after", "more smile", "smile", 2.0],
        ["after", "more smile", "age", 0.0],
        ["after", "older", "smile", 0.0],
        ["after", "older", "age", 1.5],
    ]
    assert rows[1][4] == pytest.approx(2 * 0.5**0.5)


def test_a_single_repeat_has_no_spreads():
    single = table(BEFORE[:1], AFTER[:1])
    assert single.spreads is None
    assert single.tables["before"].tolist() == BEFORE[0].tolist()
    assert {row[4] for row in single.rows()} == {""}


def test_a_single_edit_has_nothing_off_target():
    single = Leakage(("more smile",), ("smile",), torch.tensor([[[2.0]]]), torch.tensor([[[-1.0]]]))
    assert single.off_target() == {"before": 0.0, "after": 0.0}
    assert "on target 2.00 to -1.00 (-150%), off target 0.00 to 0.00 (from nothing)" in single.summary()
