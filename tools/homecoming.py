"""Where what servers have sampled comes together: one bank, of shards that are checked before they get a name."""

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError

from directions import brief, open_bank, opened, parsed, safe_path, seeds_in, write_shard
from directions.banks.shard import Shard, open_shard
from tools.remote import Odd, Remote

TRIES = 3
"""How often a shard that arrives torn is asked for."""
ALIKE = "source", "timesteps", "shapes", "latent_shape", "extras"


class Unlike(Exception):
    """A server that samples another bank than the others."""


@dataclass(frozen=True)
class Bank:
    """Which one it is."""

    folder: Path
    like: Shard
    """What all shards must be like."""
    versions: Mapping[str, str]

    def unlike(self, other: "Bank") -> list[str]:
        """What differs in another."""
        return [
            *_differences(other.versions, self.versions),
            *_differences(_recipe(other.like), _recipe(self.like)),
            *_differences(*({name: getattr(each.like, name) for name in ALIKE} for each in (other, self))),
        ]


@dataclass
class Home:
    """A bank in a folder of `root`. Lives for one run.

    Which bank it is, most of the servers decide that are there, with what each brings first; of as many, the first in
    `servers`. Who is early waits.
    """

    root: Path
    servers: list[str]
    bank: Bank | None = None
    seeds: set[int] = field(default_factory=set)
    away: set[str] = field(default_factory=set)
    votes: dict[str, Bank] = field(default_factory=dict)
    decided: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def bring(self, remote: Remote, versions: Mapping[str, str], folder: str, piece: range) -> bool:
        """Fetch what a server has sampled of a piece; whether it was not known before which bank it is."""
        there = await remote.shards(folder)
        files = [name for name, seeds in there.items() if set(seeds) & set(piece)]
        lacking = set(piece) - {seed for name in files for seed in there[name]}
        if lacking:
            raise Odd(f"it has not sampled seeds {sorted(lacking)[:3]}, which it was asked for")
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".incoming-", dir=self.root) as scratch:
            shards = []
            for number, name in enumerate(files):
                path = Path(scratch) / f"{number}.partial"
                shards.append(await self._fetched(remote, folder, name, path, there[name]))
            known = self.bank
            bank = await self._decided(remote.url, versions, folder, shards[0])
            for shard in shards:
                unlike = bank.unlike(Bank(bank.folder, shard, versions))
                if unlike:
                    raise Unlike(f"it samples another bank than the others. {'; '.join(unlike)}")
            await asyncio.to_thread(self._add, bank.folder, shards, piece)
        return known is None

    async def left(self, url: str) -> None:
        """A server that is lost, refused or has nothing to do has no say."""
        async with self.decided:
            self.away.add(url)
            self._decide()

    async def _fetched(self, remote: Remote, folder: str, name: str, path: Path, seeds: Sequence[int]) -> Shard:
        for _ in range(TRIES):
            await remote.fetch(folder, name, path)
            try:
                shard = await asyncio.to_thread(open_shard, path)
                if sorted(shard.seeds) != sorted(seeds):
                    raise ValueError(f"it holds seeds {brief(shard.seeds)}, not those that were said")
                return shard
            except ValueError as error:
                why = error
        raise Odd(f"its shard {brief(name)} arrived torn {TRIES} times: {brief(why)}")

    async def _decided(self, url: str, versions: Mapping[str, str], folder: str, shard: Shard) -> Bank:
        try:
            place = safe_path(self.root, folder, suffix="")
        except ValueError as error:
            raise Odd(str(error)) from error
        async with self.decided:
            self.away.discard(url)
            self.votes[url] = Bank(place, shard, versions)
            self._decide()
            await self.decided.wait_for(lambda: self.bank is not None)
        return self.bank or self.votes[url]

    def _decide(self) -> None:
        voters = [url for url in self.servers if url in self.votes]
        if self.bank is None and voters and {*self.servers} <= {*voters, *self.away}:
            votes = [self.votes[url] for url in voters]
            self.bank = max(votes, key=lambda bank: sum(not bank.unlike(other) for other in votes))
            if any(self.bank.folder.glob("*.safetensors")):
                here = open_bank(self.bank.folder)
                self.bank = Bank(self.bank.folder, here.shards[0], self.bank.versions)
                self.seeds = set(here.seeds)
        self.decided.notify_all()

    def _add(self, folder: Path, shards: Sequence[Shard], piece: range) -> None:
        """Write what is not at home yet. Another ComfyUI here may record into the same bank."""
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            self.seeds |= seeds_in(folder.glob("*.safetensors"))
            for shard in shards:
                wanted = [seed for seed in shard.seeds if seed in piece and seed not in self.seeds]
                if wanted:
                    _copy(shard, wanted, folder)
                    self.seeds |= set(wanted)


def _copy(shard: Shard, seeds: Sequence[int], folder: Path) -> None:
    rows = [shard.seeds.index(seed) for seed in seeds]
    try:
        with opened(shard.path) as file:
            write_shard(
                folder, seeds,
                timesteps=file.get_tensor("timesteps"),
                h={site: file.get_tensor(shard.h_tensor(site))[rows] for site, _ in shard.shapes},
                latents=file.get_tensor("latents")[rows],
                source=shard.source, recipe=shard.recipe,
                extras={name: file.get_tensor(name)[rows] for name, _ in shard.extras},
            )  # fmt: skip
    except (SafetensorError, ValueError) as error:  # such as NaN
        raise Odd(f"its shard can't be kept: {brief(error)}") from error


def _recipe(shard: Shard) -> Mapping[str, object]:
    recipe = parsed(shard.recipe)
    return recipe if isinstance(recipe, dict) else {"recipe": recipe}


def _differences(got: Mapping[str, object], wanted: Mapping[str, object]) -> list[str]:
    return [
        f"{name}: got {brief(got.get(name))}, wanted {brief(wanted.get(name))}"
        for name in {**wanted, **got}
        if got.get(name) != wanted.get(name)
    ]
