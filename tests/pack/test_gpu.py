"""The report of `make gpu`: what it makes of tests and figures."""

import torch

from tools import gpu

LOG = """<testsuites><testsuite tests="3" skipped="1" failures="1">
<testcase classname="every_part" name="two"/><testcase classname="every_part" name="one">
<failure message="AssertionError: got 1&#10;wanted 2">long</failure></testcase>
</testsuite></testsuites>"""
STEPS = {"0 edits": {"seconds": 0.5, "peak, GiB": 1.5}, "8 edits": {"seconds": 0.51, "ratio": 1.02, "peak, GiB": 1.5}}


def test_a_test_that_failed_is_in_the_report_and_on_its_page(tmp_path):
    log = tmp_path / "tests.xml"
    log.write_text(LOG)
    run = gpu.ended_tests(log)
    assert run == {"tests": 3, "skipped": 1, "failed": {"every_part::one": "AssertionError: got 1\nwanted 2"}}
    page = gpu.page({"machine": {"card": "one"}, "runs": {"novram, float16": run}, "speed": {}})
    assert "| novram, float16 | 3 | 1 | 1 |" in page
    assert "* novram, float16: every_part::one: AssertionError: got 1\n" in page


def test_the_page_has_a_row_for_each_figure():
    page = gpu.page({"machine": {}, "runs": {}, "speed": {"a step, SDXL": STEPS, "parts": {"steps": 2}}})
    assert "| a step, SDXL, 0 edits | 0.5 |  | 1.5 |  |" in page
    assert "| a step, SDXL, 8 edits | 0.51 | 1.02 | 1.5 |  |" in page


def test_every_way_of_loading_weights_runs_in_both_dtypes():
    assert len(gpu.CARD) == 6
    assert {"--novram --fp16-unet", "--disable-dynamic-vram --bf16-unet"} < set(gpu.CARD.values())


def test_the_report_says_whether_there_is_a_card():
    assert ("CPU" in gpu.machine()["card"]) == (not torch.cuda.is_available())
