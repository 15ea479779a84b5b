"""Sample one bank on many ComfyUIs: `python -m tools.capture WORKFLOW.json --seeds 0-9999 --servers URL URL ...`

WORKFLOW.json holds one Sample Bank, as *Export (API)* writes it. Each server is given the same prompt with other seeds,
in pieces small enough that a slow or lost one costs a piece; what it has sampled is brought home, checked, and written
into the bank's folder here. Started again, it goes on where it was. A server that would sample another bank is refused.
"""

import argparse
import asyncio
import json
import re
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from tqdm import tqdm

from directions import brief, open_bank
from tools.comfyui import find_comfyui
from tools.homecoming import Home, Unlike
from tools.remote import SAYS, TIMEOUT, Lost, Odd, Remote, with_seeds

BANK = "HSpaceSampleBank"
AGAIN = 3.0
"""Seconds after which a lost server is asked again."""
SEEDS = re.compile(r"(\d{1,20})(?:-(\d{1,20}))?")


def the_bank(workflow: Any) -> tuple[dict[str, Any], str]:
    """What of a workflow in API format a bank needs, and the node that records it. `ValueError` unless it has one."""
    nodes = workflow if isinstance(workflow, dict) else {}
    banks = [name for name, node in nodes.items() if isinstance(node, dict) and node.get("class_type") == BANK]
    if len(banks) != 1:
        raise ValueError(
            f"The workflow has {len(banks)} nodes Sample Bank, wanted one. Write it with Export (API) in the menu."
        )
    (bank,), needed, wanted = banks, {}, deque(banks)
    while wanted:
        name = wanted.popleft()
        if name not in needed:
            needed[name] = nodes[name]
            links = [value for value in nodes[name]["inputs"].values() if isinstance(value, list)]
            wanted += [link[0] for link in links]
    for name in ("first_seed", "count", "batch_size"):
        if not isinstance(needed[bank]["inputs"].get(name), int):
            raise ValueError(f"Sample Bank's {name} comes from another node, wanted a number.")
    return needed | {SAYS: {"class_type": "PreviewAny", "inputs": {"source": [bank, 2]}}}, bank


def seeds_of(text: str) -> range:
    """The seeds of "0-9999"."""
    found = SEEDS.fullmatch(text.strip())
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if not first <= last < 1 << 64:
        raise ValueError(f"got seeds {brief(text)}, wanted such as 0-9999")
    return range(first, last + 1)


def in_pieces(seeds: Iterable[int], size: int) -> deque[range]:
    """Ascending seeds as runs of at most so many."""
    pieces: deque[range] = deque()
    for seed in seeds:
        if pieces and pieces[-1].stop == seed and len(pieces[-1]) < size:
            pieces[-1] = range(pieces[-1].start, seed + 1)
        else:
            pieces.append(range(seed, seed + 1))
    return pieces


@dataclass
class Capture:
    """Pieces that are still to be dealt, and who has what. Lives for one run."""

    prompt: dict[str, Any]
    node: str
    home: Home
    pieces: deque[range]
    size: int
    """Seeds of a piece."""
    patience: float
    """Seconds without a sign of life from any server after which it ends."""
    given: int = 0
    """Pieces that servers are at."""
    refused: dict[str, str] = field(default_factory=dict)
    """Why, by server."""
    alive: float = field(default_factory=time.monotonic)

    async def work(self, remote: Remote, bar: tqdm) -> None:
        """Deal pieces to a server until there is none left, or it is refused."""
        while self.pieces or self.given:
            if not self.pieces:  # what others are at may come back
                await self.home.left(remote.url)
                await asyncio.sleep(0.2)
                continue
            piece = self.pieces.popleft()
            self.given += 1
            try:
                await self._piece(remote, piece, bar)
                self.alive = time.monotonic()
            except Lost as error:
                self.pieces.appendleft(piece)
                await self.home.left(remote.url)
                bar.set_postfix_str(str(error))
                self._require_patience(error)
                await asyncio.sleep(AGAIN)
            except (Odd, Unlike) as error:
                self.pieces.appendleft(piece)
                await self.home.left(remote.url)
                self.refused[remote.url] = str(error)
                bar.set_postfix_str(f"refused: {error}")
                return
            finally:
                self.given -= 1

    async def _piece(self, remote: Remote, piece: range, bar: tqdm) -> None:
        versions = await remote.versions()
        self.home.away.discard(remote.url)

        def report(share: float) -> None:
            self.alive = time.monotonic()
            bar.set_postfix_str(f"seeds {piece.start}-{piece.stop - 1}: {share:.0%}")

        prompt = with_seeds(self.prompt, self.node, piece.start, len(piece))
        folder = await remote.sampled(prompt, report)
        if await self.home.bring(remote, versions, folder, piece):
            left = (seed for each in self.pieces for seed in each if seed not in self.home.seeds)
            self.pieces = in_pieces(left, self.size)
        bar.update(len(piece))

    def _require_patience(self, error: Exception) -> None:
        waited = time.monotonic() - self.alive
        if waited > self.patience:
            raise ConnectionError(f"no server has answered for {waited:.0f} s, the last error is: {error}") from error


@dataclass(frozen=True)
class Captured:
    folder: Path
    refused: dict[str, str]
    """Servers that took no part, and why."""


async def capture(
    workflow: Any, seeds: range, servers: Sequence[str], *, batches: int, to: Path, patience: float
) -> Captured:
    """The seeds of a workflow's bank, sampled by servers, at home under `to`. What was there already is kept."""
    prompt, node = the_bank(workflow)
    piece = batches * prompt[node]["inputs"]["batch_size"]
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        remotes = [Remote(url.rstrip("/"), session) for url in dict.fromkeys(servers)]
        home = Home(to, [remote.url for remote in remotes])
        run = Capture(prompt, node, home, in_pieces(seeds, piece), piece, patience)
        bars = [tqdm(total=len(seeds), desc=each.url, position=i, unit="seed") for i, each in enumerate(remotes)]
        try:
            await asyncio.gather(*(run.work(remote, bar) for remote, bar in zip(remotes, bars, strict=True)))
        finally:
            for bar in bars:
                bar.close()
    if run.pieces or home.bank is None:
        why = "; ".join(f"{url}: {reason}" for url, reason in run.refused.items())
        raise ValueError(f"{sum(map(len, run.pieces))} of {len(seeds)} seeds are left, and no server is. {why}")
    open_bank(home.bank.folder)  # all of it belongs together
    return Captured(home.bank.folder, run.refused)


def banks_folder() -> Path:
    comfyui = find_comfyui()
    if comfyui is None:
        raise ValueError("no ComfyUI found to bring the bank home to: name a folder with --to")
    return comfyui / "models" / "hspace_banks"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tools.capture", description="Sample one bank on many ComfyUIs.")
    parser.add_argument("workflow", type=Path, help="with one Sample Bank, as Export (API) writes it")
    parser.add_argument("--seeds", type=seeds_of, required=True, help="such as 0-9999")
    parser.add_argument("--servers", nargs="+", required=True, help="addresses such as http://192.168.1.2:8188")
    parser.add_argument("--batches", type=int, default=2, help="of batch_size seeds, that a server gets at a time (2)")
    parser.add_argument("--to", type=Path, help="folder of banks (models/hspace_banks of this ComfyUI)")
    parser.add_argument("--patience", type=float, default=300, help="seconds to wait for lost servers (300)")
    chosen = parser.parse_args(arguments)
    try:
        workflow = json.loads(chosen.workflow.read_text(encoding="utf-8"))
        to = chosen.to or banks_folder()
        done = asyncio.run(
            capture(workflow, chosen.seeds, chosen.servers, batches=chosen.batches, to=to, patience=chosen.patience)
        )
    except (ValueError, OSError) as error:
        print(f"{error}. What has been sampled is kept: run it again to go on.", file=sys.stderr)
        return 1
    for url, reason in done.refused.items():
        print(f"{url} took no part: {reason}", file=sys.stderr)
    print(f"{len(chosen.seeds)} seeds are in {done.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
