"""Probe: how much of a picture follows its h in this model."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ...directions import norm_matched_noise, relative_distance, share_of_way
from ..host import Progress, chosen_sites, levels_of, record, sample, seed_range, single_latent, substitute
from ..ui import (
    CATEGORY,
    CFG,
    EMPTY_LATENT,
    FEW_STEPS,
    MODEL,
    NEGATIVE,
    VAE,
    bars,
    below,
    first_seed_input,
    grid,
    parse_names,
    parse_windows,
)

ByBranch = Mapping[str, Mapping[float, Tensor]]
"""h by side of the guidance and timestep."""


class HSpaceProbe(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceProbe",
            display_name="Probe h-space",
            category=CATEGORY,
            description="Says where a model keeps its meaning: gives pictures the h of another picture, at each site "
            "and in each window, and as much noise, and measures how far they follow. The first thing to try on an "
            "unknown checkpoint.",
            search_aliases=["does it work", "swap h", "test model", "which sites", "h-space strength", "style mixing"],
            inputs=[
                MODEL,
                io.Conditioning.Input("positive", tooltip="As for the sampler. What both pictures of a pair show."),
                NEGATIVE,
                io.Sampler.Input("sampler", tooltip="Any sampler but dpm_adaptive."),
                FEW_STEPS,
                EMPTY_LATENT,
                VAE,
                io.String.Input(
                    "windows",
                    default="0-1, 0-0.33, 0.33-0.67, 0.67-1",
                    tooltip="When in the sampling h is replaced, with commas between: 0 is pure noise, 1 the finished "
                    "picture. At the first site; at the others the first window.",
                ),
                io.Int.Input(
                    "pairs", default=2, min=1, max=100, tooltip="Pairs of pictures that swap their h. 2 to 8."
                ),
                first_seed_input("picture"),
                CFG,
                io.Int.Input(
                    "picture_size",
                    default=128,
                    min=32,
                    max=2048,
                    tooltip="Longer side of each picture in the sheet, in pixels. 96 to 256.",
                ),
                io.String.Input(
                    "sites",
                    default="auto",
                    optional=True,
                    advanced=True,
                    tooltip='Where h is replaced. In a UNet "middle" is the bottleneck, "output.3" what enters decoder '
                    'block 3; in a transformer "double.5" is what block 5 makes of the picture, "double.5.text" of the '
                    "text. Several with commas between. auto takes the bottleneck and each level of the decoder; of a "
                    "transformer eight blocks, for the picture.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="sheet", tooltip="The numbers as bars, and the first pair's pictures."),
                io.Float.Output(
                    display_name="follows",
                    tooltip="How far a picture goes to the one whose h it is given, at the first site in the first "
                    "window: 0 stays, 1 becomes it.",
                ),
                io.String.Output(display_name="info", tooltip="The numbers in words."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, model, positive, negative, sampler, sigmas, latent, vae, windows, pairs, first_seed, cfg, picture_size,
        sites="auto",
    ):  # fmt: skip
        sites = levels_of(model) if sites.strip() == "auto" else chosen_sites(model, parse_names(sites))
        times = parse_windows(windows)
        swaps = [Swap(sites[0], window) for window in times] + [Swap(site, times[0]) for site in sites[1:]]
        run = dict(positive=positive, negative=negative, cfg=cfg, sampler=sampler, sigmas=sigmas)
        latent = single_latent(model, latent)
        progress = Progress(model, pairs * (1 + 2 * len(swaps)) * (len(sigmas) - 1))
        probe = _Probe(model, latent, vae, run, swaps, progress)
        seeds = seed_range(first_seed, 2 * pairs)
        found = [probe.pair(seeds[first : first + 2]) for first in range(0, len(seeds), 2)]
        follows, noise = (torch.stack([each[kind] for each, _ in found]).mean((0, 1)) for kind in (0, 1))
        labels = [str(swap) for swap in swaps]
        sheet = sheet_of(found[0][1], seeds, labels, follows, noise, picture_size)
        info = "\n".join(
            f"{label}: given another picture's h, a picture goes {f:.0%} of the way to it; noise as large moves it "
            f"{n:.0%} as far, in any direction."
            for label, f, n in zip(labels, follows.tolist(), noise.tolist(), strict=True)
        )
        return io.NodeOutput(sheet, float(follows[0]), info, ui=ui.PreviewImage(sheet, cls=cls))


class Swap(NamedTuple):
    """Where and when h is replaced."""

    site: str
    window: tuple[float, float]

    def __str__(self) -> str:
        start, end = self.window
        return f"{self.site}, {start:g} to {end:g}"


class _Probe:
    """Samples pairs of pictures with their h swapped, and with noise in it."""

    def __init__(self, model, latent, vae, run: dict, swaps: Sequence[Swap], progress: Progress):
        self.model, self.latent, self.vae, self.run = model, latent, vae, run
        self.swaps, self.progress = swaps, progress

    def pair(self, seeds: range) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Share of the way and relative distance, `(2, swaps)` each, and pictures `(4, 2 + swaps, ...)`."""
        recorded, own = self._record(seeds)
        other = own.flip(0)
        given = (flipped, partial(with_noise, seed=seeds[0]))
        pictures = [
            [self._pictures(seeds, swap, recorded[swap.site], change) for swap in self.swaps] for change in given
        ]
        follows = torch.stack([share_of_way(changed, own, other) for changed in pictures[0]], 1)
        noise = torch.stack([relative_distance(changed, own, other) for changed in pictures[1]], 1)
        rows = [torch.stack([own, *each, other], 1) for each in pictures]
        return (follows, noise), torch.cat(rows)

    def _record(self, seeds: range) -> tuple[dict[str, ByBranch], Tensor]:
        """h by site, side of the guidance, and timestep; and the finished pictures."""
        sites = list(dict.fromkeys(swap.site for swap in self.swaps))
        recording, positive = record(self.model, "positive", sites)
        recording, negative = record(recording, "negative", sites)
        pictures = self._sampled(recording, seeds)
        sides = [each for each in (positive, negative) if each.h[sites[0]]]
        return {site: {each.branch: each.h[site] for each in sides} for site in sites}, pictures

    def _pictures(self, seeds: range, swap: Swap, recorded: ByBranch, change) -> Tensor:
        given = {branch: change(each) for branch, each in recorded.items()}
        return self._sampled(substitute(self.model, {swap.site: given}, *swap.window), seeds)

    def _sampled(self, model, seeds: range) -> Tensor:
        latents = sample(model, **self.run, latent=self.latent, seeds=seeds, on_step=self.progress)
        return self.vae.decode(latents).cpu()


def flipped(recorded: Mapping[float, Tensor]) -> dict[float, Tensor]:
    """h by timestep, each picture's given to the other."""
    return {timestep: h.flip(0) for timestep, h in recorded.items()}


def with_noise(recorded: Mapping[float, Tensor], seed: int) -> dict[float, Tensor]:
    """h by timestep, moved as far from itself as the other's of the pair is, in a random direction."""
    h = torch.stack(list(recorded.values()), 1).float()
    generator = torch.Generator().manual_seed(seed % (1 << 63))
    noisy = h + norm_matched_noise(h.flip(0) - h, generator)
    return dict(zip(recorded, noisy.unbind(1), strict=True))


def sheet_of(pictures: Tensor, seeds: range, labels: list[str], follows: Tensor, noise: Tensor, size: int) -> Tensor:
    """The numbers as bars, and below them the `pictures` of the first pair."""
    a, b = seeds[:2]
    sheet = grid(
        pictures,
        title="In place of its own h: the other picture's, or noise as large",
        row_labels=[f"{a}, h of {b}", f"{b}, h of {a}", f"{a}, noise", f"{b}, noise"],
        column_labels=["plain", *labels, "other"],
        highlighted=[0],
        size=size,
    )
    groups = {"goes to the picture whose h it has": follows.tolist(), "noise moves it as far as": noise.tolist()}
    title = "How far pictures follow their h (1: the distance of the two pictures)"
    return below(bars(groups, labels, title=title, width=sheet.shape[2]), sheet)


NODES = [HSpaceProbe]
