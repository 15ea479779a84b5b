"""Trials of banks sampled on three real ComfyUIs, of which some die, come late, lie, tear what they send or differ.

    python -m pytest -s tests/slow/captures.py            (a quarter of an hour on two cores)

Each trial must end with the bank that one server alone samples, to the bit: nothing lost, nothing twice.
"""

import random
import signal
import threading
import time
from contextlib import ExitStack

import pytest
from captures import BATCH, captured, same, server, standing_before

pytestmark = [pytest.mark.server, pytest.mark.slow]

SEEDS, TRIALS = range(60), 20


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Two of a kind, and one with another model."""
    with ExitStack() as stack:
        kinds = {"first": {}, "second": {}, "odd": {"other_model": True}}
        yield {name: stack.enter_context(server(tmp_path_factory.mktemp(name), **kind)) for name, kind in kinds.items()}


@pytest.fixture(scope="module")
def alone(servers, tmp_path_factory):
    """The bank of one server."""
    return captured(SEEDS, [servers["first"].url], tmp_path_factory.mktemp("alone"), batches=len(SEEDS) // BATCH)[1]


def test_a_torn_shard_is_fetched_again_and_a_server_that_always_tears_them_is_refused(servers, alone, tmp_path):
    torn = iter([True, False, False])

    def sometimes(request, body):
        return body[: len(body) // 2] if request.path == "/hspace/shard" and next(torn, False) else None

    def always(request, body):
        return body[:-1] if request.path == "/hspace/shard" else None

    with (
        standing_before(servers["first"].url, sometimes) as once,
        standing_before(servers["second"].url, always) as bad,
    ):
        done, bank = captured(SEEDS, [once, bad], tmp_path)
    assert same(bank, alone)
    assert "arrived torn 3 times" in done.refused[bad]


def test_a_server_that_says_nonsense_is_refused_and_nothing_of_it_is_kept(servers, alone, tmp_path):
    lies = {
        "/hspace/version": b'{"version": []}',
        "/system_stats": b"[" * 5000,
        "/hspace/shards": b'{"../../x.safetensors": {"seeds": [0, 1, 2, 3]}}',
        "/prompt": b'{"prompt_id": 5}',
    }
    with ExitStack() as stack:
        told = [
            stack.enter_context(
                standing_before(servers["second"].url, lambda r, _, p=path: lies[p] if r.path == p else None)
            )
            for path in lies
        ]
        done, bank = captured(SEEDS, [servers["first"].url, *told], tmp_path, batches=3)
    assert same(bank, alone)
    assert set(done.refused) == set(told)
    assert [path.name for path in tmp_path.iterdir()] == [bank.shards[0].path.parent.name]


def test_a_killed_server_costs_a_piece_and_capture_goes_on_where_it_was(servers, alone, tmp_path, tmp_path_factory):
    with server(tmp_path_factory.mktemp("killed")) as killed:
        threading.Thread(target=lambda: (time.sleep(1.5), killed.process.send_signal(signal.SIGKILL))).start()
        _, part = captured(SEEDS[:8], [killed.url, servers["first"].url], tmp_path)
    assert same(part, alone.select(SEEDS[:8]))
    before = {path: path.stat().st_mtime_ns for path in part.shards[0].path.parent.glob("*.safetensors")}
    _, whole = captured(SEEDS, [servers["second"].url], tmp_path)
    assert same(whole, alone)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())


@pytest.mark.parametrize("trial", range(TRIALS))
def test_whatever_happens_the_bank_is_whole(servers, alone, trial, tmp_path, tmp_path_factory):
    """A server is killed at some moment and one starts late; now and then the odd one or one that tears takes part."""
    chance = random.Random(trial)  # noqa: S311, nothing is kept secret by it
    torn = iter([True] * chance.randint(0, 2) + [False] + [True] * chance.randint(0, 2))  # never three times running

    def tears(request, body):
        return body[: len(body) - 9] if request.path == "/hspace/shard" and next(torn, False) else None

    with ExitStack() as stack:
        killed = stack.enter_context(server(tmp_path_factory.mktemp("killed")))
        late = server(tmp_path_factory.mktemp("late"))

        def happen() -> None:
            time.sleep(chance.uniform(0.2, 6))
            killed.process.send_signal(signal.SIGKILL)
            stack.enter_context(late)

        urls = [killed.url, late.url, stack.enter_context(standing_before(servers["second"].url, tears))]
        chance.shuffle(urls)
        urls += [servers["odd"].url] * (chance.random() < 0.5)  # of as many, the first decide
        happening = threading.Thread(target=happen)
        happening.start()
        done, bank = captured(SEEDS, urls, tmp_path, batches=chance.randint(1, 2))
        happening.join()
    print(f"trial {trial}: refused {done.refused}", flush=True)
    assert same(bank, alone)
    assert not {killed.url, late.url} & set(done.refused)
