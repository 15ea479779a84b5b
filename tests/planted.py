"""Synthetic banks with a known truth."""

from pathlib import Path

import torch
from torch import Tensor

from directions import Bank, Direction, Scores, Source, open_bank, write_shard

TIMESTEPS = torch.tensor([900.0, 600.0, 300.0, 100.0])
SHAPE = (6, 5, 5)
DEVIATIONS = torch.tensor([9.0, 6.0, 4.0, 2.5, 1.5])
ATTRIBUTES = ("smile", "age", "glasses")
PUSH = 3.0
"""How far one unit of an attribute's score moves h along its axis."""
SOURCE = Source("DDPM", "0123", "positive", (64, 64))


def direction(seed: int = 0, timesteps: Tensor = TIMESTEPS, shape: tuple[int, ...] = SHAPE, **words) -> Direction:
    delta = torch.randn(len(timesteps), *shape, generator=torch.Generator().manual_seed(seed))
    words = {"name": f"d{seed}", "method": "planted", "unit": "one", "source": SOURCE, "recipe": "{}"} | words
    return Direction(deltas={"middle": delta}, timesteps=timesteps, **words)


def trajectories(n: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    """h `(n, t, c, h, w)` float16 that varies along five planted axes `(5, c*h*w)`, and those axes."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.Size(SHAPE).numel()
    axes = torch.linalg.qr(torch.randn(size, 5, generator=generator))[0].T
    weights = torch.randn(n, len(TIMESTEPS), 5, generator=generator) * DEVIATIONS
    h = weights @ axes + 0.1 * torch.randn(n, len(TIMESTEPS), size, generator=generator)
    return h.half().unflatten(2, SHAPE), axes


def bank(folder: Path, h: Tensor, *, shard: int = 7, order: list[int] | None = None, **words) -> Bank:
    """A bank of `h`, seeds counting from 0, written in shards of that many trajectories."""
    seeds = order or list(range(len(h)))
    words = {"timesteps": TIMESTEPS, "source": SOURCE, "recipe": "{}"} | words
    for first in range(0, len(seeds), shard):
        part = seeds[first : first + shard]
        write_shard(
            folder,
            part,
            h={"middle": h[part]},
            latents=torch.tensor(part).reshape(-1, 1, 1, 1).expand(-1, 3, 4, 4),
            **words,
        )
    return open_bank(folder)


def attributes(n: int = 400, seed: int = 0, *, correlation: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """h `(n, t, c, h, w)` float16 that three attributes move, their standard normal scores `(n, 3)`, and their axes.

    The axes `(t, 3, c*h*w)` are orthonormal and others at each timestep; smile and age have the given correlation.
    """
    generator = torch.Generator().manual_seed(seed)
    size = torch.Size(SHAPE).numel()
    axes = torch.linalg.qr(torch.randn(len(TIMESTEPS), size, 3, generator=generator))[0].mT
    values = torch.randn(n, 3, generator=generator)
    values[:, 1] = correlation * values[:, 0] + (1 - correlation**2) ** 0.5 * values[:, 1]
    h = PUSH * torch.einsum("nm,tmd->ntd", values, axes)
    h = h + 0.5 * torch.randn(n, len(TIMESTEPS), size, generator=generator)
    return h.half().unflatten(2, SHAPE), values, axes


def scores(bank: Bank, values: Tensor, columns: tuple[str, ...] = ATTRIBUTES, **words) -> Scores:
    """Scores of all pictures of `bank`, in the order of their seeds."""
    words = {"seeds": bank.seeds, "bank_recipe": bank.recipe, "origin": "planted"} | words
    return Scores(columns, values, **words)
