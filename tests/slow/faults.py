"""Kill and interrupt a real ComfyUI at random moments while it records, learns and saves, and see what it leaves.

    python -m tests.slow.faults [kill] [interrupt]            (without arguments both; 40 minutes on two cores)

A trial: queue a prompt, end it at a seeded random moment (SIGKILL to the server's process group, or POST /interrupt as
the page's Cancel does), look at the folder without the server, queue the same prompt again to its end, compare with
undisturbed runs. The clock is the server's own messages, a random number of them and a random little while more, so
that moments are spread over the work however busy the machine is. After a kill one server finishes a trial and begins
the next, so each trial costs one start. Each is a line of output/faults/trials.jsonl as soon as it is over: stopped,
the command goes on there; delete the folder to begin anew. Writes docs/faults.json; ends with 1 if anything was lost.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from http.client import HTTPException
from pathlib import Path
from threading import Timer
from typing import Any
from urllib.request import Request

from websocket import WebSocketException

from tests.benchmarks.results import remember
from tests.slow.activities import ACTIVITIES, BASE, ROUNDS, WORK, Events, Learning, Recording, Saving
from tools.comfyui import ROOT
from tools.server import OPENER, Server

RESULTS, TRIALS = ROOT / "docs" / "faults.json", WORK / "trials.jsonl"
WAYS = {"kill": 27, "interrupt": 10}
"""Trials of each activity."""

BEYOND = 1.1
"""Moments are drawn from so much of an undisturbed run, so that some lie after its end."""


@dataclass
class Trial:
    way: str
    activity: str
    number: int
    messages: int = 0
    """Of the server, before the moment."""
    moment: float = 0.0
    """Seconds after the last of them."""
    finished: int = 0
    """Pieces that the server had reported as finished."""
    kept: int = 0
    """Pieces on disk afterwards."""
    pieces: int = 0
    unfinished_files: int = 0
    """Hidden ones with temporary names."""
    wrong: list[str] = field(default_factory=list)
    stamps: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.way} {self.number}"

    @property
    def when(self) -> str:
        return "before" if self.kept == 0 else "after" if self.kept == self.pieces else "during"

    def look(self, activity: Any) -> None:
        """What is on disk now, with no server or an idle one."""
        paths = activity.files(self.name)
        hidden = [path for path in paths if path.name[0] == "." and path.suffix == ".partial"]
        shown = [path for path in paths if path not in hidden]
        self.unfinished_files, self.stamps = len(hidden), stamps(shown)
        try:
            self.kept = activity.whole(shown)
        except ValueError as error:
            self.wrong.append(f"half or other file: {error}")
        if self.kept < self.finished:
            self.wrong.append(f"lost: {self.finished} pieces were finished, {self.kept} are there")

    def finish(self, activity: Any, server: Server) -> None:
        """Queue it again, to the end."""
        try:
            server.queue(activity.prompt(self.name), {})
            shown = [path for path in activity.files(self.name) if path.name[0] != "."]
            if activity.whole(shown) != activity.pieces:
                self.wrong.append("the run after it did not finish")
            if isinstance(activity, Recording) and not self.stamps.items() <= stamps(shown).items():
                self.wrong.append("finished shards were written again")
        except (RuntimeError, ValueError) as error:
            self.wrong.append(f"the run after it: {error}")
        with TRIALS.open("a") as file:
            file.write(json.dumps(asdict(self)) + "\n")
        print(f"{self.name}, {activity.name}: {self.when}, {self.kept} of {self.pieces}", *self.wrong, flush=True)
        for folder in {path.parent for path in activity.files(self.name)}:
            shutil.rmtree(folder)


def stamps(paths: Iterable[Path]) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def disturb(server: Server, activity: Any, trial: Trial, blow: Callable[[], object]) -> Events:
    """Queue, and `blow()` at the trial's moment. What the server said until then."""
    events: Events = []
    until: list[int] = []
    timer = Timer(trial.moment, lambda: (until.append(len(events)), blow()))

    def report(event: str, data: dict[str, Any]) -> None:
        events.append((event, data))
        if len(events) == trial.messages:
            timer.start()

    if trial.messages == 0:
        timer.start()
    with suppress(RuntimeError, OSError, HTTPException, WebSocketException):  # it has ended, or was interrupted
        server.queue(activity.prompt(trial.name), {}, report)
    if timer.ident is None:  # there were fewer messages
        timer.start()
    timer.join()
    return events[: until[0]]


def kill(server: Server) -> None:
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()


def interrupt(server: Server) -> None:
    OPENER.open(Request(f"{server.url}/interrupt", b"")).close()


def prepare() -> None:
    """Undisturbed runs: their files, how many messages the server sends, and how long they take."""
    spans = {}
    for activity in ACTIVITIES:
        with Server(WORK / "pictures", base=BASE) as server:
            set_up(server, activity, "timed")
            start, events = time.monotonic(), []
            server.queue(activity.prompt("timed"), {}, lambda event, data, events=events: events.append(event))
            spans[activity.name] = len(events), time.monotonic() - start
            if isinstance(activity, Recording):
                server.queue(activity.prompt("undisturbed"), {})
            if isinstance(activity, Learning):
                for rounds in range(1, ROUNDS + 1):
                    server.queue(activity.prompt(f"undisturbed {rounds}", rounds), {})
    (WORK / "spans.json").write_text(json.dumps(spans))
    print("messages and seconds of an undisturbed run:", spans, flush=True)


def set_up(server: Server, activity: Any, name: str) -> None:
    for folder in {path.parent for path in activity.files(name)}:  # of a trial that was stopped itself
        shutil.rmtree(folder)
    if isinstance(activity, Saving):
        server.queue(activity.prompt(name, 0), {})


def begin(server: Server, trial: Trial, activity: Any, spans: dict[str, tuple[int, float]]) -> None:
    set_up(server, activity, trial.name)
    draw = random.Random(f"{trial.name} {trial.activity}")  # noqa: S311, which moment is no secret
    messages, seconds = spans[activity.name]
    trial.messages, trial.moment = int(draw.uniform(0, BEYOND * messages)), draw.uniform(0, 4 * seconds / messages)
    trial.pieces, ways = activity.pieces, {"kill": kill, "interrupt": interrupt}
    trial.finished = activity.finished(disturb(server, activity, trial, lambda: ways[trial.way](server)))
    trial.look(activity)


def known_trials() -> list[Trial]:
    lines = TRIALS.read_text().splitlines() if TRIALS.exists() else []
    return [Trial(**json.loads(line)) for line in lines]


def waiting(way: str) -> list[tuple[Trial, Any]]:
    done = {(trial.way, trial.activity, trial.number) for trial in known_trials()}
    trials = [(Trial(way, each.name, i), each) for i in range(WAYS[way]) for each in ACTIVITIES]
    return [(trial, each) for trial, each in trials if (way, each.name, trial.number) not in done]


def kills(spans: dict[str, tuple[int, float]]) -> None:
    begun: tuple[Trial, Any] | None = None
    coming = waiting("kill")
    while begun or coming:
        with Server(WORK / "pictures", base=BASE) as server:
            if begun:
                begun[0].finish(begun[1], server)
            begun = coming.pop(0) if coming else None
            if begun:
                begin(server, *begun, spans)


def interrupts(spans: dict[str, tuple[int, float]]) -> None:
    coming = waiting("interrupt")
    if coming:
        with Server(WORK / "pictures", base=BASE) as server:
            for trial, activity in coming:
                begin(server, trial, activity, spans)
                trial.finish(activity, server)


def summary(trials: list[Trial]) -> dict[str, int]:
    whens = [trial.when for trial in trials]
    return {
        "trials": len(trials),
        "before the first file": whens.count("before"),
        "during the work": whens.count("during"),
        "after the work": whens.count("after"),
        "pieces finished by then": sum(trial.finished for trial in trials),
        "hidden unfinished files": sum(trial.unfinished_files for trial in trials),
        "trials with something wrong": sum(bool(trial.wrong) for trial in trials),
    }


def report() -> int:
    """Prints and keeps the table. How many trials went wrong."""
    wrong = 0
    for way in WAYS:
        rows = {
            each.name: [t for t in known_trials() if (t.way, t.activity) == (way, each.name)] for each in ACTIVITIES
        }
        table = {name: summary(trials) for name, trials in rows.items() if trials}
        for number, (name, row) in enumerate(table.items()):
            if not number:
                print(f"\n| {way} |", " | ".join(row), "|")
            print(f"| {name} |", " | ".join(map(str, row.values())), "|")
            wrong += row["trials with something wrong"]
        if table:
            remember(RESULTS, way, table)
    return wrong


def main() -> int:
    ways = sys.argv[1:] or list(WAYS)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of torch wait for each other where other work runs too
    WORK.mkdir(parents=True, exist_ok=True)
    if not (WORK / "spans.json").exists():
        prepare()
    spans = json.loads((WORK / "spans.json").read_text())
    for way in ways:
        {"kill": kills, "interrupt": interrupts}[way](spans)
    return 1 if report() else 0


if __name__ == "__main__":
    sys.exit(main())
