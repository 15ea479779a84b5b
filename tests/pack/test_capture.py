"""One bank of many ComfyUIs: the same to the bit as one's own, whoever differs; who dies or lies is in tests/slow."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest
from captures import BATCH, captured, same, server, workflow

from tools.capture import in_pieces, seeds_of, the_bank

ROOT = Path(__file__).parents[2]
SEEDS = range(12)


@pytest.mark.parametrize("text", ["", "5-3", "a", "0-18446744073709551616", "-1"])
def test_seeds_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match="wanted such as 0-9999"):
        seeds_of(text)


def test_pieces_are_runs_of_seeds_that_follow_each_other():
    assert list(in_pieces([0, 1, 2, 3, 4, 7, 9, 10], 3)) == [range(0, 3), range(3, 5), range(7, 8), range(9, 11)]


def test_what_a_bank_needs_of_a_workflow_is_what_it_is_wired_to():
    whole = workflow() | {"other": {"class_type": "HSpaceLoadDirection", "inputs": {"direction": "x"}}}
    needed, bank = the_bank(whole)
    assert (bank, set(needed)) == ("bank", {"load", "sampler", "sigmas", "bank", "hspace capture"})
    with pytest.raises(ValueError, match="0 nodes Sample Bank"):
        the_bank({})
    with pytest.raises(ValueError, match="first_seed comes from another node"):
        the_bank(whole | {"bank": whole["bank"] | {"inputs": whole["bank"]["inputs"] | {"first_seed": ["other", 0]}}})


def test_the_workflow_for_distributed_workers_deals_every_seed_once():
    nodes = json.loads((ROOT / "docs" / "distributed.json").read_text())
    dealer, bank = nodes["first seed"], nodes["bank"]["inputs"]
    assert dealer["class_type"] == "DistributedValue"
    assert bank["first_seed"] == ["first seed", 0]
    values = json.loads(dealer["inputs"]["worker_values"])  # worker number, from 1, to what it is given
    assert values.pop("_type") == "INT"
    assert list(values) == ["1", "2", "3"]
    firsts = [int(dealer["inputs"]["default_value"]), *map(int, values.values())]
    assert firsts == [number * bank["count"] for number in range(4)]


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """One, and one with another model."""
    with ExitStack() as stack:
        kinds = {"first": {}, "odd": {"other_model": True}}
        yield {name: stack.enter_context(server(tmp_path_factory.mktemp(name), **kind)) for name, kind in kinds.items()}


@pytest.fixture(scope="module")
def alone(servers, tmp_path_factory):
    """The bank of one server."""
    return captured(SEEDS, [servers["first"].url], tmp_path_factory.mktemp("alone"), batches=len(SEEDS) // BATCH)[1]


@pytest.mark.server
def test_a_bank_in_pieces_is_the_same_and_the_odd_server_is_refused_by_name(servers, alone, tmp_path):
    urls = [servers[name].url for name in ("first", "odd")]
    done, bank = captured(SEEDS, ["http://127.0.0.1:9", *urls], tmp_path)
    assert same(bank, alone)
    assert list(done.refused) == [servers["odd"].url]
    assert "another bank than the others. model: got" in done.refused[servers["odd"].url]


@pytest.mark.server
def test_only_files_of_banks_are_given_out(servers, alone):
    from urllib.error import HTTPError

    first = servers["first"]
    folder = alone.shards[0].path.parent.name
    name, *_ = json.loads(first.get(f"/hspace/shards?folder={folder}"))
    assert first.get(f"/hspace/shard?folder={folder}&file={name}")
    for query in (
        f"folder={folder}&file=../x",
        "folder=..&file=x",
        f"folder={folder}/../..&file={name}",
        "folder=&file=",
    ):
        with pytest.raises(HTTPError, match="404"):
            first.get(f"/hspace/shard?{query}")
