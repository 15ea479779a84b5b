"""What a machine cannot test: left out and said so, or a failure where every tier is required."""

import os
from importlib.util import find_spec
from typing import NoReturn

import pytest

REQUIRED = "HSPACE_REQUIRE_ALL_TIERS"


def leave_out(why: str) -> NoReturn:
    """Skip this test, or at the head of a file all of its tests; fail instead where `REQUIRED` is set."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{REQUIRED} is set, but {why}", pytrace=False)
    pytest.skip(why, allow_module_level=True)


def require_browser() -> None:
    """At the head of a file: leave its tests out where ComfyUI's page can't be opened."""
    if find_spec("playwright") is None:
        leave_out("the browser tier needs playwright: `pip install -r requirements-dev.txt`")
    from tools.browser import find_chromium  # only where playwright is

    if find_chromium() is None:
        leave_out("the browser tier needs Chromium: `apt-get install chromium` on Debian, or set CHROMIUM to its path")


def left_out(skipped: list[pytest.TestReport | pytest.CollectReport]) -> list[str]:
    """One line for each file and reason: what was not tested, and how to get it."""
    return sorted(
        {f"{report.nodeid.partition('::')[0]}: {report.longrepr[2].removeprefix('Skipped: ')}" for report in skipped}
    )
