"""Principal components of h, exact, reading the bank piece by piece.

Haas et al., FG 2024, arXiv 2303.11073, section IV-A. With n trajectories of d numbers, n far below d, the n x n Gram
matrix of the centred data has the same spectrum as the d x d covariance and is summed up over slices of channels.
"""

import json
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Literal

import torch
from scipy.linalg import eigh
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..banks import Bank
from ..direction import Direction, DirectionSet, factors_of, spreads_of
from .gram import centred_gram, project

SPARE_COMPONENTS = 8
"""Further components computed per timestep, so that one which falls out of the first k is still followed."""

Span = Literal["each timestep", "whole trajectory"]
Progress = Callable[[int, int], None]


def find_components(
    bank: Bank,
    k: int,
    *,
    span: Span = "each timestep",
    on_progress: Progress = lambda done, total: None,
    executor: Executor | None = None,
) -> DirectionSet:
    """The first k principal components of `bank` as directions, with their explained variance ratio.

    "each timestep" (the paper's default) takes components per timestep and follows them from neighbour to neighbour
    by |cosine|, so that order and sign stay the same along the trajectory. "whole trajectory" takes one PCA of all
    timesteps flattened. Strength 1 is one standard deviation of the bank along the component. An `executor` multiplies
    the matrices elsewhere, where the bank's folder must have the same path; the result is the same.
    """
    if not 1 <= k <= len(bank) - 1:
        raise ValueError(
            f"{len(bank)} trajectories have 1 to {len(bank) - 1} components: got k = {k}. Ask for fewer components "
            "or sample a larger bank."
        )
    find = _per_timestep if span == "each timestep" else _whole_trajectory
    deltas, spreads, spectrum = find(bank, k, on_progress, executor)
    order = spectrum.sum(1).argsort(descending=True) if span == "each timestep" else torch.arange(k)
    directions = tuple(
        Direction(
            deltas=_by_site(bank, deltas[component], spreads),
            timesteps=bank.timesteps,
            name=f"component {i + 1}",
            method=f"PCA of {span}",
            unit="one standard deviation of the bank along the component",
            source=bank.source,
            spreads=spreads,
            recipe=json.dumps(
                {
                    "find": "PCA",
                    "span": span,
                    "component": i + 1,
                    "of": k,
                    "trajectories": len(bank),
                    "seeds": [min(bank.seeds), max(bank.seeds)],
                    "bank": json.loads(bank.recipe),
                }
            ),
        )
        for i, component in enumerate(order.tolist())
    )
    return DirectionSet(directions, spectrum[order], "explained variance ratio")


def _per_timestep(
    bank: Bank, k: int, on_progress: Progress, executor: Executor | None
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Deltas `(k, t, d)` of all sites, spreads, and explained variance ratios `(k, t)`, matched outwards from the
    middle timestep."""
    steps, anchor = len(bank.timesteps), len(bank.timesteps) // 2
    deltas, spreads = _empty(bank, k)
    spectrum = torch.empty(k, steps, dtype=torch.float64)
    spare = min(k + SPARE_COMPONENTS, len(bank) - 1)
    outwards = [(step, step + 1) for step in reversed(range(anchor))] + [
        (step, step - 1) for step in range(anchor + 1, steps)
    ]
    for done, (step, neighbour) in enumerate([(anchor, None), *outwards]):
        gram, factors = _gram(bank, step, spreads, executor)
        total = gram.trace()
        values, vectors = _leading(gram, k, spare)
        components = project(bank, step, vectors / values.sqrt(), factors, executor)
        if neighbour is None:
            chosen, signs = torch.arange(k), _largest_positive(components[:k])
        else:
            chosen, signs = _match(deltas[:, neighbour], components)
        deviations = (values[chosen] / (len(bank) - 1)).sqrt()
        deltas[:, step] = components[chosen] * (signs * deviations).float().unsqueeze(1)
        spectrum[:, step] = values[chosen] / total
        on_progress(done + 1, steps)
    return deltas, spreads, spectrum


def _whole_trajectory(
    bank: Bank, k: int, on_progress: Progress, executor: Executor | None
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Deltas `(k, t, d)` of all sites, spreads, and the share of a timestep's variance along each of them `(k, t)`."""
    steps = len(bank.timesteps)
    (deltas, spreads), factors = _empty(bank, k), []
    whole, totals = torch.zeros(len(bank), len(bank), dtype=torch.float64), torch.empty(steps, dtype=torch.float64)
    for step in range(steps):
        gram, here = _gram(bank, step, spreads, executor)
        factors.append(here)
        whole, totals[step] = whole.add_(gram), gram.trace()
        on_progress(step + 1, 2 * steps)
    del gram
    _, vectors = _leading(whole, k, k)
    for step in range(steps):
        deltas[:, step] = project(bank, step, vectors, factors[step], executor) / (len(bank) - 1) ** 0.5
        on_progress(steps + step + 1, 2 * steps)
    deltas *= _largest_positive(deltas.flatten(1)).float().reshape(-1, 1, 1)
    spectrum = deltas.double().square().sum(2) * (len(bank) - 1) / totals
    return deltas, spreads, spectrum


def _empty(bank: Bank, k: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Room for the deltas `(k, t, d)` of all sites and for their spreads."""
    steps, numbers = len(bank.timesteps), sum(torch.Size(shape).numel() for shape in bank.shapes.values())
    return torch.empty(k, steps, numbers), {site: torch.empty(steps) for site in bank.shapes}


def _by_site(bank: Bank, deltas: Tensor, spreads: dict[str, Tensor]) -> dict[str, Tensor]:
    """Deltas `(t, d)` in the measure in which sites are compared, as `(t, c, h, w)` in h's own."""
    sizes = [torch.Size(shape).numel() for shape in bank.shapes.values()]
    first = next(iter(spreads.values()))
    parts = zip(bank.shapes.items(), torch.split(deltas, sizes, dim=1), strict=True)
    return {site: (part * (spreads[site] / first).unsqueeze(1)).reshape(-1, *shape) for (site, shape), part in parts}


def _gram(
    bank: Bank, step: int, spreads: dict[str, Tensor], executor: Executor | None
) -> tuple[Tensor, dict[str, float]]:
    """`(n, n)` float64: inner products of the centred trajectories at one step, on and below the diagonal, all sites in
    one measure; and the factors that put them there. Fills in the step's `spreads`."""
    grams = {site: centred_gram(bank, site, step, executor) for site in bank.shapes}
    here = spreads_of(grams)
    for site, spread in here.items():
        spreads[site][step] = spread
    factors = factors_of(here)
    whole, *others = grams
    for site in others:
        grams[whole] += factors[site] ** 2 * grams.pop(site)
    return grams[whole], factors


def _leading(gram: Tensor, k: int, at_most: int) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues `(m,)`, descending, and their eigenvectors `(n, m)`; at least k that are not noise.

    `gram` is read below its diagonal, and overwritten: at 10,000 trajectories it takes 800 MB.
    """
    n, noise = len(gram), gram.trace().item() * torch.finfo(torch.float32).eps
    values, vectors = eigh(  # transposed, for LAPACK wants columns: what lay below the diagonal is above it then
        gram.numpy().T, lower=False, subset_by_index=(n - at_most, n - 1), overwrite_a=True
    )
    rank = int((values > noise).sum())
    if rank < k:
        raise ValueError(
            f"The bank varies in {rank} directions only, wanted {k} components: ask for fewer, or sample a bank "
            "whose pictures differ."
        )
    return torch.from_numpy(values).flip(0)[:rank], torch.from_numpy(vectors).flip(1)[:, :rank]


def _largest_positive(components: Tensor) -> Tensor:
    """Signs `(k,)` that make each row's largest entry positive, as scikit-learn's svd_flip does."""
    return components.gather(1, components.abs().argmax(1, keepdim=True)).squeeze(1).sign().double()


def _match(previous: Tensor, components: Tensor) -> tuple[Tensor, Tensor]:
    """Which component `(k,)` continues each row of `previous`, and with which sign `(k,)`."""
    cosines = torch.nn.functional.normalize(previous, dim=1) @ components.T
    _, chosen = linear_sum_assignment(cosines.abs().numpy(), maximize=True)
    index = torch.from_numpy(chosen)
    signs = cosines.gather(1, index.unsqueeze(1)).squeeze(1).sign().double()
    return index, torch.where(signs == 0, 1.0, signs)
