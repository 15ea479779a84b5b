"""The Jacobian's directions on the demo model: speed and accuracy, masks, strength, meaning.

    python -m pytest -s tests/benchmarks/jacobian.py        (a quarter of an hour on two cores)

Every part is written to docs/jacobian.json as soon as it is known. docs/jacobian.md is its summary.
"""

import json
import math
import statistics
import time

import numpy as np
import pytest
import torch
from demo_model import ROOT, DemoModel
from scipy.sparse.linalg import svds
from semantics import norm_matched_random

pytestmark = pytest.mark.comfy

RESULTS = ROOT / "docs" / "jacobian.json"
TURNS = 3
FACES = range(3_000_000, 3_000_016)
OTHERS = range(3_100_000, 3_100_032)
STRENGTHS = (-3.0, -1.5, 1.5, 3.0)


@pytest.fixture(scope="module")
def demo(pack, tmp_path_factory):
    return DemoModel(pack, tmp_path_factory.mktemp("banks"))


def remember(part: str, result) -> None:
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    RESULTS.write_text(json.dumps(known | {part: result}, indent=1) + "\n")
    print(f"\n{part}: {json.dumps(result)}", flush=True)


def find(demo, seed: int, percents: str, count: int = 3, mask=None, protect_outside: int = 0):
    """Directions of a face, and the face `(1, 3, 64, 64)`."""
    node = demo.node("HSpaceFindJacobian")
    options = {**demo.settings, "latent": demo.latent, "seed": seed, "percents": percents, "count": count}
    found, latent, _ = node.execute(
        demo.model, protect_outside=protect_outside, branch="positive", mask=mask, **options
    ).result
    return found, latent["samples"]


def halves_at(demo, seed: int, step: int):
    found = []
    sigmas = demo.settings["sigmas"]
    at = demo.module("nodes.host.split_passes").visit_at_sigmas(
        demo.model, lambda sigma, halves: found.append(halves), {float(sigmas[step]): f"step {step + 1}"}, "positive"
    )
    demo.module("nodes.host.sampling").sample(
        at, **demo.settings, latent=demo.latent, seeds=[seed], on_step=lambda x0: None
    )
    return found[0]


class WholeUNet:
    """The paper's products: the whole UNet runs in each of them (Alg. 1)."""

    def __init__(self, unet, x, timesteps):
        self.unet, self.x, self.timesteps, self.calls = unet, x, timesteps, 0

    def predict(self, delta):
        h, skips, emb = self.unet.encode(self.x, self.timesteps)
        return self.unet.decode(h + delta, skips, emb)

    def forward(self, v):
        self.calls += 1
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return torch.func.jvp(self.predict, (torch.zeros_like(v),), (v,))[1]

    def transposed(self, u):
        self.calls += 1
        zero = torch.zeros(1, *self.shape)
        return torch.func.vjp(self.predict, zero)[1](u)[0]


def power_iteration(whole: WholeUNet, k: int, iterations: int = 50, tol: float = 1e-5):
    """The paper's algorithm: one vector after another, each kept orthogonal to those before."""
    torch.manual_seed(0)
    found = []
    for _ in range(k):
        v, value = _orthogonal(torch.randn(1, *whole.shape), found), 0.0
        v = v / v.norm()
        for _ in range(iterations):
            u = whole.forward(v)
            following = _orthogonal(whole.transposed(u / u.norm()), found)
            before, value = v, following.norm()
            v = following / value
            if (v - before).norm() < tol:
                break
        found.append((value.item(), v))
    return [value for value, _ in found], torch.cat([v for _, v in found])


def _orthogonal(v, found):
    for _, other in found:
        v = v - (v * other).sum() * other
    return v


def test_speed_and_accuracy_against_the_papers_power_iteration(demo):
    step = 5
    halves = halves_at(demo, FACES[0], step)
    jacobian = halves.jacobian()
    leading = demo.directions.leading_triplets
    columns = torch.eye(math.prod(jacobian.in_shape)).reshape(-1, *jacobian.in_shape)
    started = time.perf_counter()
    dense = torch.cat([_columns(halves, part) for part in columns.split(128)])
    print(f"dense Jacobian in {time.perf_counter() - started:.0f} s")
    _, truth, rows = svds(dense.double().numpy().T, 10, tol=1e-12)
    order = np.argsort(-truth)
    truth, rows = truth[order], torch.from_numpy(rows[order].copy())
    whole = whole_unet(demo, step)
    whole.shape = jacobian.in_shape
    table = []
    for k in (1, 3, 10):
        seconds, theirs = [], []
        for _ in range(TURNS):
            started = time.perf_counter()
            ours = leading(halves.jacobian(), k)
            seconds.append(time.perf_counter() - started)
            whole.calls, started = 0, time.perf_counter()
            values, vectors = power_iteration(whole, k)
            theirs.append(time.perf_counter() - started)
        faster = sorted(round(their / our, 1) for their, our in zip(theirs, seconds, strict=True))
        table.append(
            {
                "k": k,
                "ours": {"seconds": round(statistics.median(seconds), 2), "products": sum(ours.products)}
                | accuracy(ours.values.tolist(), ours.right, truth[:k], rows[:k]),
                "paper": {"seconds": round(statistics.median(theirs), 2), "products": whole.calls}
                | accuracy(values, vectors, truth[:k], rows[:k]),
                "times faster": statistics.median(faster),
                "lowest and highest": [faster[0], faster[-1]],
            }
        )
    remember("speed", table)


def _columns(halves, part):
    """Columns of the dense Jacobian, one forward derivative each, in batches."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        push = lambda v: torch.func.jvp(halves.decode, (halves.h,), (v[None],))[1][0]  # noqa: E731
        return torch.func.vmap(push, chunk_size=32)(part).flatten(1)


def whole_unet(demo, step: int) -> WholeUNet:
    seen = []
    recording = demo.model.clone()
    recording.set_model_middle_block_after_patch(lambda args: seen.append(args) or {"h": args["h"]})
    demo.module("nodes.host.sampling").sample(
        recording, **demo.settings, latent=demo.latent, seeds=[FACES[0]], on_step=lambda x0: None
    )
    return WholeUNet(demo.model.model.diffusion_model, seen[step]["x"], seen[step]["timesteps"])


def accuracy(values, vectors, truth, rows) -> dict:
    cosines = torch.linalg.svdvals(vectors.flatten(1).double() @ rows.T).clamp(max=1)
    return {
        "error of values": float(f"{np.abs(np.array(values) / truth - 1).max():.1e}"),
        "largest angle": float(f"{torch.acos(cosines.min()).item():.1e}"),
    }


REGIONS = {"eyes": (24, 34, 16, 48), "mouth": (39, 53, 18, 46), "background": (0, 64, 0, 10)}
"""Rows and columns of a 64x64 face."""


def test_masked_directions_act_inside(demo):
    results = {}
    for region, (top, bottom, left, right) in REGIONS.items():
        mask = torch.zeros(1, 64, 64)
        mask[:, top:bottom, left:right] = 1
        for name, options in {
            "no mask": {},
            "mask": {"mask": mask},
            "mask, 5 protected": {"mask": mask, "protect_outside": 5},
            "mask, 10 protected": {"mask": mask, "protect_outside": 10},
            "mask, 20 protected": {"mask": mask, "protect_outside": 20},
        }.items():
            changes = [region_change(demo, seed, mask[0], options) for seed in FACES[:6]]
            inside, outside = np.array(changes).mean(0)
            results[f"{region}; {name}"] = {
                "change inside": round(inside, 4), "outside": round(outside, 4), "ratio": round(inside / outside, 1)
            }  # fmt: skip
    remember("masks", results)


def region_change(demo, seed: int, mask, options: dict) -> tuple[float, float]:
    """RMS change of pixels (-1..1) inside and outside, of a face's first direction at strengths -2 and 2."""
    found, plain = find(demo, seed, "0.5", 1, **options)
    change = torch.cat([demo.latents([seed], [(found[0], strength)]) - plain for strength in (-2.0, 2.0)])
    square = change.square().mean((0, 1))
    return tuple(float((square * part).sum() / part.sum()) ** 0.5 for part in (mask, 1 - mask))


def test_strength_1_is_what_it_says(demo):
    """Measured change at strength 1 as a share of the first-order prediction, by timestep."""
    results: dict[str, list] = {}
    for seed in FACES[:8]:
        found, plain = find(demo, seed, "0.15, 0.3, 0.45, 0.6, 0.75", 3)
        for direction in found:
            change = demo.latents([seed, seed], [(direction, 1.0)])[:1] - plain
            predicted = 0.2 * float(plain.std())
            results.setdefault(f"t {float(direction.timesteps):.0f}", []).append(
                float(change.square().mean().sqrt()) / predicted
            )
    quartiles = {
        t: [round(float(q), 2) for q in np.quantile(ratios, [0.25, 0.5, 0.75])] for t, ratios in results.items()
    }
    remember("strength", quartiles)


def test_what_the_directions_mean(demo):
    """Largest change of any attribute, in standard deviations of faces, beside norm-matched random directions."""
    spread = demo.scores(OTHERS).std(0)
    generator = torch.Generator().manual_seed(0)
    own = {"found": [], "random": []}
    attributes: dict[str, int] = {}
    transfer = {"found": [], "random": []}
    for number, seed in enumerate(FACES):
        found, _ = find(demo, seed, "0.3", 3)
        plain = demo.scores([seed])
        for direction in found:
            pair = {"found": direction, "random": norm_matched_random(direction, generator)}
            for name, each in pair.items():
                change = torch.cat([demo.scores([seed], [(each, s)]) - plain for s in STRENGTHS]) / spread
                own[name].append(change.abs().max().item())
                if name == "found":
                    most = demo.judge.columns[int(change.abs().amax(0).argmax())]
                    attributes[most] = attributes.get(most, 0) + 1
        if number < 4:
            for name, each in {"found": found[0], "random": norm_matched_random(found[0], generator)}.items():
                up, down = (demo.scores(OTHERS, [(each, s)]) for s in (2.0, -2.0))
                transfer[name].append(((up - down) / spread).mean(0).abs().max().item())
    remember(
        "meaning",
        {
            "own face, median of the largest change": {name: round(float(np.median(v)), 2) for name, v in own.items()},
            "attribute that changes most": dict(sorted(attributes.items(), key=lambda entry: -entry[1])),
            "others, mean change from -2 to 2 of the attribute that changes most": {
                name: [round(value, 2) for value in values] for name, values in transfer.items()
            },
        },
    )
