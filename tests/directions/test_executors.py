"""Whoever multiplies, the directions are the same: here, threads, processes, a cluster of dask's."""

import multiprocessing
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch
from dying import square
from planted import attributes, bank, scores

from directions import find_components, find_from_examples, find_from_scores
from directions.banks import in_order, work
from directions.finders.gram import PIECE_ELEMENTS, ROWS, pieces_of, row_blocks

FINDERS = {
    "components": lambda planted, executor: find_components(planted["bank"], 3, executor=executor),
    "whole trajectory": lambda planted, executor: find_components(
        planted["bank"], 3, span="whole trajectory", executor=executor
    ),
    "scores": lambda planted, executor: find_from_scores(
        planted["bank"], planted["scores"], "smile", others=["age"], examples=20, executor=executor
    ),
    "examples": lambda planted, executor: find_from_examples(*planted["halves"], name="x", executor=executor),
}


@contextmanager
def processes():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


@contextmanager
def cluster():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as nodes,
        distributed.Client(nodes) as client,
    ):
        yield client.get_executor()


EXECUTORS = {"threads": lambda: ThreadPoolExecutor(2), "processes": processes, "dask's cluster": cluster}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("banks")
    h, values, _ = attributes(600)
    whole = bank(folder, h, shard=50)
    return {
        "bank": whole,
        "scores": scores(whole, values),
        "halves": (whole.select(range(0, 250)), whole.select(range(250, 600))),
    }


@pytest.fixture(scope="module", params=EXECUTORS)
def executor(request):
    with EXECUTORS[request.param]() as executor:
        yield executor


def numbers(found) -> list[torch.Tensor]:
    """All that a finder says."""
    directions = [found.direction] if hasattr(found, "direction") else list(found)
    deltas = [delta for direction in directions for delta in direction.deltas.values()]
    trust = getattr(found, "reliability", None)
    return [*deltas, trust.d_prime, trust.cosine] if trust else deltas


@pytest.mark.parametrize("finder", FINDERS)
def test_an_executor_changes_no_direction(planted, executor, finder):
    alone, shared = (numbers(FINDERS[finder](planted, each)) for each in (None, executor))
    for one, other in zip(alone, shared, strict=True):
        assert (one.double() - other.double()).norm() <= 1e-10 * one.double().norm()


@pytest.mark.parametrize("channels", [1, 3, 4, 5, 20])
def test_every_slice_of_a_block_is_in_one_piece(channels):
    slices = [slice(channel, channel + 1) for channel in range(channels)]
    pieces = pieces_of(10_000, slices, ThreadPoolExecutor(1))
    for block in row_blocks(10_000):
        assert [each for piece in pieces if piece.block == block for each in piece.slices] == slices


@pytest.mark.parametrize("rows", [2, 3, 90, 10_000])
def test_blocks_cover_every_row_once_and_are_small(rows):
    blocks = row_blocks(rows)
    assert [row for first, last in blocks for row in range(first, last)] == list(range(rows))
    assert max((last - first) * last for first, last in blocks) <= PIECE_ELEMENTS + 2 * ROWS * rows


def test_results_come_in_order_and_few_wait():
    started: list[int] = []

    def piece(number: int) -> int:
        started.append(number)
        return number

    with ThreadPoolExecutor(2) as executor:
        for number in in_order(piece, range(40), executor):
            assert len(started) <= number + work.AT_ONCE
    assert sorted(started) == list(range(40))


def test_a_cluster_does_again_what_a_killed_worker_was_doing(tmp_path):
    with cluster() as executor:
        pieces = [(str(tmp_path), number) for number in range(6)]
        assert list(in_order(square, pieces, executor)) == [0, 1, 4, 9, 16, 25]


def test_a_killed_process_ends_in_an_error(tmp_path):
    with processes() as executor, pytest.raises(BrokenExecutor, match="terminated abruptly"):
        list(in_order(square, [(str(tmp_path), number) for number in range(6)], executor))
