"""One bench of the prompted faces for all tables that judge dials, so that what one has found the next need not."""

import pytest
from dials import Bench
from prompted_model import PromptedModel


@pytest.fixture(scope="session")
def bench(pack, tmp_path_factory):
    return Bench(PromptedModel(pack), tmp_path_factory.mktemp("banks"))
