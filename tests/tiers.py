"""What a machine cannot test: left out and said so, or a failure where every tier is required."""

import os
from typing import NoReturn

import pytest

REQUIRED = "HSPACE_REQUIRE_ALL_TIERS"


def leave_out(why: str) -> NoReturn:
    """Skip this test, or at the head of a file all of its tests; fail instead where `REQUIRED` is set."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{REQUIRED} is set, but {why}", pytrace=False)
    pytest.skip(why, allow_module_level=True)


def left_out(skipped: list[pytest.TestReport | pytest.CollectReport]) -> list[str]:
    """One line for each file and reason: what was not tested, and how to get it."""
    return sorted(
        {f"{report.nodeid.partition('::')[0]}: {report.longrepr[2].removeprefix('Skipped: ')}" for report in skipped}
    )
