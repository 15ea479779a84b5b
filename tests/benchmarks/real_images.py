"""Edits of pictures the model has not made, against edits of its own, and directions found in them.

    python -m pytest -s tests/benchmarks/real_images.py        (three quarters of an hour on two cores)

"Real" are renders of demo/faces.py: 64 fresh ones as the model's data has them, and 64 whose attributes are all at an
end of their range. They are inverted and edited with the directions of the default finder, at the strengths that move
generated faces by one standard deviation, and at half and one and a half times these; 50 steps, and what fewer do.
Writes docs/real_images.json and docs/real_images.jpg.
"""

import os
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch
from demo_faces import folder_of
from demo_model import BATCH, ROOT, DemoModel
from PIL import Image
from results import remember, rounded
from torch.nn.functional import cosine_similarity

from demo.faces import ATTRIBUTES, LOWEST_FACE, Face, render, render_batch

pytestmark = pytest.mark.comfy

DOCS = ROOT / "docs"
RESULTS = DOCS / "real_images.json"
TARGETS, ALSO = ("smile", "glasses", "age", "beard", "hair_length"), ("skin", "background", "yaw")
TRAJECTORIES, EXAMPLES, RENDERS, BANK_OF_RENDERS = 1000, 200, 64, 500
SEEDS, CALIBRATION_SEEDS = range(4_000_000, 4_000_064), range(4_100_000, 4_100_064)
STRENGTHS = (0.125, 0.25, 0.5, 1.0, 2.0, 3.0)
STEPS, FEWER = 50, (10, 25)
SHARES = (0.5, 1.0, 1.5)
WAYS = {
    "edit-friendly": ("edit-friendly DDPM", 0, SHARES),
    "edit-friendly, skip 10": ("edit-friendly DDPM", 10, (1.0,)),
    "edit-friendly, skip 20": ("edit-friendly DDPM", 20, (1.0,)),
    "DDIM": ("DDIM", 0, (1.0,)),
}
"""Method, skipped steps, and at which shares of the strength it is tried."""
DRAWN = {"smile": 1.0, "age": 0.5, "glasses": 0.8}


@pytest.fixture(scope="module")
def demo(pack, tmp_path_factory):
    return DemoModel(pack, Path(os.environ.get("HSPACE_BENCHMARK_BANKS", tmp_path_factory.mktemp("banks"))))


@pytest.fixture(scope="module")
def found(demo):
    bank = demo.recorded(TRAJECTORIES)
    return directions(demo, bank, demo.scores_of(bank))


def directions(demo, bank, scores) -> dict:
    return {
        name: demo.directions.find_from_scores(
            bank, scores, name, examples=min(EXAMPLES, len(bank) // 5), others=(*TARGETS, *ALSO)
        ).direction
        for name in TARGETS
    }


@pytest.fixture(scope="module")
def strengths(demo, found) -> dict:
    """That of each direction which moves generated faces by one standard deviation."""
    plain = demo.scores(CALIBRATION_SEEDS)
    result = {}
    for name, direction in found.items():
        column = demo.judge.columns.index(name)
        moved = [
            demo.directions.change(demo.scores(CALIBRATION_SEEDS, [(direction, s)]), plain)[column].item()
            for s in STRENGTHS
        ]
        result[name] = round(float(np.interp(1.0, moved, STRENGTHS)), 3)
    print("\nstrengths", result, flush=True)
    return result


def to_latents(pictures: np.ndarray) -> torch.Tensor:
    """Of `(n, 64, 64, 3)` uint8."""
    return torch.from_numpy(pictures).movedim(-1, 1).float() / 127.5 - 1


def fresh(count: int) -> torch.Tensor:
    return to_latents(render_batch(count, seed=77_000_000)[0])


def edge(count: int) -> torch.Tensor:
    """Faces with every attribute at one end of its range, drawn by lot."""
    lowest, highest = np.array(astuple(LOWEST_FACE)), np.ones(len(ATTRIBUTES))
    chosen = np.random.default_rng(78_000_000).integers(0, 2, (count, len(ATTRIBUTES)))
    faces = np.where(chosen, highest, lowest)
    return to_latents(np.stack([np.asarray(render(Face(*row))) for row in faces.tolist()]))


class Inverted:
    """Pictures, and the noises that lead to them."""

    def __init__(self, demo, latents: torch.Tensor, folder, method: str = "edit-friendly DDPM", skip=0, steps=STEPS):
        self.demo = demo
        node = demo.node("HSpaceInvertImage")
        with folder_of("hspace_banks", folder), torch.inference_mode():
            self.noise, self.latent, self.sampler, self.sigmas, self.bank, _ = node.execute(
                demo.model, demo.empty, demo.empty, {"samples": latents}, demo.sigmas(steps), method, skip, 0,
                "renders", BATCH, 1.0, "positive",
            ).result  # fmt: skip

    def edited(self, direction=None, strength: float = 0.0) -> torch.Tensor:
        import comfy.samplers

        demo = self.demo
        model = demo.module("nodes.host").inject(demo.model, direction, [strength]) if direction else demo.model
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(demo.empty, demo.empty)
        guider.set_cfg(1.0)
        noise = self.noise.generate_noise(self.latent)
        return guider.sample(
            noise, self.latent["samples"], self.sampler, self.sigmas, disable_pbar=True, seed=0
        ).float().cpu()  # fmt: skip


def test_edits_of_renders_are_those_of_generated_faces(demo, found, strengths, tmp_path):
    sigmas = demo.sigmas(STEPS)
    plain = demo.latents(SEEDS, sigmas=sigmas)
    spread, results = spread_of(demo, plain), {"strengths": strengths}
    for name in TARGETS:
        for share in SHARES:
            edited = demo.latents(SEEDS, [(found[name], share * strengths[name])], sigmas=sigmas)
            results.setdefault("generated", {}).setdefault(name, {})[share] = effect(demo, name, plain, edited, spread)
    for kind, renders in (("fresh", fresh(RENDERS)), ("edge", edge(RENDERS))):
        for way, (method, skip, shares) in WAYS.items():
            inverted = Inverted(demo, renders, tmp_path / f"{kind} {way}", method, skip)
            rows = results.setdefault(kind, {}).setdefault(way, {})
            rows["reconstruction"] = f"{(inverted.edited() - renders).abs().max():.1e}"
            for name in TARGETS:
                for share in shares if kind == "fresh" else (1.0,):
                    edited = inverted.edited(found[name], share * strengths[name])
                    row = effect(demo, name, renders, edited, spread)
                    rows.setdefault(name, {})[share] = compared(row, results["generated"][name][share])
            remember(RESULTS, "edits", results)
            shown = {name: rounded(rows[name][1.0]["of generated"]) for name in TARGETS}
            print(f"{kind}, {way}: target change, of generated faces' {shown}", flush=True)


def test_fewer_steps_leave_inverted_pictures_less_free(demo, found, strengths, tmp_path):
    """Renders, and pictures the model made itself: so it is not that renders are strange to it."""
    results = {}
    for steps in FEWER:
        sigmas = demo.sigmas(steps)
        generated = demo.latents(SEEDS, sigmas=sigmas)
        spread = spread_of(demo, generated)
        for kind, pictures in (("fresh", fresh(RENDERS)), ("generated, inverted", generated)):
            inverted = Inverted(demo, pictures, tmp_path / f"{kind} {steps}", steps=steps)
            for name in TARGETS:
                edit = (found[name], strengths[name])
                own = effect(demo, name, generated, demo.latents(SEEDS, [edit], sigmas=sigmas), spread)
                row = compared(effect(demo, name, pictures, inverted.edited(*edit), spread), own)
                results.setdefault(f"{steps} steps, {kind}", {})[name] = row["of generated"]
            print(steps, kind, rounded(results[f"{steps} steps, {kind}"]), flush=True)
    remember(RESULTS, "fewer steps", results)


def compared(row: dict, generated: dict) -> dict:
    return row | {f"{key}of generated": row[f"{key}target"] / generated[f"{key}target"] for key in ("", "free ")}


def spread_of(demo, latents) -> torch.Tensor:
    return demo.judge.scores(demo.images(latents)).std(0)


def effect(demo, name: str, plain, edited, spread) -> dict:
    """Mean change of the target and of the others, in standard deviations of generated faces, and of what it shows.

    "free target" is that of the pictures whose score is below the middle: those at the upper end can't rise. "identity"
    is the distance of the judge's features, 1 being that of two different faces.
    """
    before, after = (demo.judge.scores(demo.images(x)) for x in (plain, edited))
    change = ((after - before).mean(0) / spread).tolist()
    target = demo.judge.columns.index(name)
    others = [abs(c) for i, c in enumerate(change) if i != target]
    free = before[:, target] <= before[:, target].median()
    a, b = features(demo, plain), features(demo, edited)
    stranger = (1 - cosine_similarity(a, a.roll(1, 0))).mean()
    return {
        "target": change[target],
        "free target": ((after - before)[free, target].mean() / spread[target]).item(),
        "others": sum(others) / len(others),
        "identity": ((1 - cosine_similarity(a, b)).mean() / stranger).item(),
        "pixels": (edited - plain).abs().mean().item(),
    }


@torch.no_grad()
def features(demo, latents) -> torch.Tensor:
    network = demo.judge.patcher.model[0]
    return network.features(latents.clamp(-1, 1)).flatten(1)


def test_a_bank_of_renders_gives_the_directions_of_a_generated_one(demo, strengths, tmp_path):
    generated = demo.recorded(TRAJECTORIES)
    halves = [generated.select(generated.seeds[i::2]) for i in range(2)]
    assert len(halves[0]) == BANK_OF_RENDERS
    real = Inverted(demo, fresh(BANK_OF_RENDERS), tmp_path, steps=len(generated.timesteps)).bank
    found = [directions(demo, bank, demo.scores_of(bank)) for bank in (real, *halves)]
    plain = demo.scores(SEEDS)
    results = {}
    for name in TARGETS:
        column = demo.judge.columns.index(name)
        of_real, one, other = (each[name] for each in found)
        moved = [
            demo.directions.change(demo.scores(SEEDS, [(each, strengths[name])]), plain)[column].item()
            for each in (of_real, one)
        ]
        results[name] = {
            "cosine": cosines(of_real, one),
            "cosine of two generated": cosines(one, other),
            "effect of real": moved[0],
            "effect of generated": moved[1],
        }
        print(name, rounded(results[name]), flush=True)
    remember(RESULTS, "bank", {"timesteps": generated.timesteps.tolist(), **results})


def cosines(a, b) -> list[float]:
    return cosine_similarity(a.deltas["middle"].flatten(1), b.deltas["middle"].flatten(1)).tolist()


def test_draw(pack, demo, found, tmp_path):
    """The first four fresh renders with neither a smile nor glasses: themselves, given back, and three edits."""
    renders = fresh(RENDERS)
    scores = dict(zip(demo.judge.columns, demo.judge.scores(demo.images(renders)).T, strict=True))
    renders = renders[((scores["smile"] < 0) & (scores["glasses"] < 0.5)).nonzero().flatten()[:4]]
    inverted = Inverted(demo, renders, tmp_path)
    shown = [renders, inverted.edited(), *(inverted.edited(found[name], s) for name, s in DRAWN.items())]
    pictures = torch.stack([demo.images(latents) for latents in shown], 1).clamp(0, 1)
    sheet = demo.module("nodes.ui.sheets").grid(
        pictures, title="Edits of pictures the model has not made", row_labels=[""] * len(renders), size=160,
        column_labels=["picture", "given back", *(f"{name} {strength:g}" for name, strength in DRAWN.items())],
    )  # fmt: skip
    Image.fromarray(sheet[0].mul(255).round().byte().numpy()).save(DOCS / "real_images.jpg", quality=90)
