"""ComfyUI's page, for the files of the browser tier."""

import pytest


@pytest.fixture(scope="module")
def open_page(server):
    from tools.browser import Frontend

    with Frontend(server.url) as frontend:
        yield frontend


@pytest.fixture
def frontend(open_page):
    open_page.close_dialogs()
    open_page.problems.clear()
    return open_page
