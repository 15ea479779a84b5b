"""The Jacobian's directions on the demo model: speed and accuracy, masks, strength, meaning.

    python -m pytest -s tests/benchmarks/jacobian.py        (a quarter of an hour on two cores)

Every part is written to docs/jacobian.json as soon as it is known. docs/jacobian.md is its summary.
"""

import json
import statistics
import time

import numpy as np
import pytest
import torch
from demo_model import ROOT, DemoModel
from power_iteration import power_iteration
from scipy.sparse.linalg import svds
from semantics import norm_matched_random

pytestmark = pytest.mark.comfy

RESULTS = ROOT / "docs" / "jacobian.json"
TURNS = 5
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
        demo.model,
        lambda sigma, halves: found.append(halves),
        {float(sigmas[step]): f"step {step + 1}"},
        "positive",
        "middle",
    )
    demo.module("nodes.host.sampling").sample(
        at, **demo.settings, latent=demo.latent, seeds=[seed], on_step=lambda x0: None
    )
    return found[0]


@pytest.mark.parametrize("first", [1.0, 1e-4])
def test_the_baseline_stops_after_eleven_small_changes_of_its_eigenvalue(first):
    """From 1e-4 the eigenvalue rests near the second one, then climbs, then settles: small changes before count too."""
    squares, weights = torch.tensor([[1.0, 0.5, 0.1], [first, 1.0, 1.0]], dtype=torch.float64)
    start = weights / weights.norm()
    norms = torch.stack([(squares**power * start).norm() for power in range(100)])
    changes = (norms[1:] / norms[:-1]).diff().abs()
    wanted = 2 + int((changes < 1e-5).nonzero()[10])  # iterations: the first has no change yet
    values, _, products = power_iteration(lambda h: squares.sqrt() * h, torch.zeros(1, 3).double(), 1, start)
    assert products == [2 * wanted]
    assert values == pytest.approx([float(norms[wanted] / norms[wanted - 1]) ** 0.5])


def test_speed_and_accuracy_against_the_authors_power_iteration(demo):
    step = 5
    halves = halves_at(demo, FACES[0], step)
    truth, rows = exact(halves, 10)
    predict = whole_unet(demo, step)
    leading = demo.directions.leading_triplets
    table = []
    for k in (1, 3, 10):
        ours, authors = [], []
        for turn in range(TURNS):
            started = time.perf_counter()
            found = leading(halves.jacobian(), k, seed=turn)
            ours.append({"seconds": time.perf_counter() - started, "products": sum(found.products)}
                        | accuracy(found.values.tolist(), found.right, truth[:k], rows[:k]))  # fmt: skip
            start = torch.randn(halves.prediction.numel(), generator=torch.Generator().manual_seed(turn))
            started = time.perf_counter()
            values, vectors, products = power_iteration(predict, halves.h, k, start / start.norm())
            authors.append({"seconds": time.perf_counter() - started, "products": sum(products)}
                           | accuracy(values, vectors, truth[:k], rows[:k]))  # fmt: skip
        faster = sorted(round(other["seconds"] / own["seconds"], 1) for own, other in zip(ours, authors, strict=True))
        table.append(
            {
                "k": k,
                "ours": of_turns(ours),
                "authors": of_turns(authors),
                "times faster": statistics.median(faster),
                "lowest and highest": [faster[0], faster[-1]],
            }
        )
    remember("speed", table)


def of_turns(results: list[dict]) -> dict:
    """Of each figure the median, the lowest and the highest."""
    columns = {name: sorted(each[name] for each in results) for name in results[0]}
    return {name: [float(f"{v:.2g}") if isinstance(v, float) else v for v in (statistics.median(c), c[0], c[-1])]
            for name, c in columns.items()}  # fmt: skip


def exact(halves, k: int):
    """The leading singular values `(k,)` and right vectors `(k, n)` of the dense Jacobian, in float64."""
    started = time.perf_counter()
    units = torch.eye(halves.h.numel()).reshape(-1, *halves.h.shape[1:])
    dense = torch.cat([_columns(halves, part) for part in units.split(128)])
    print(f"dense Jacobian in {time.perf_counter() - started:.0f} s")
    _, values, rows = svds(dense.double().numpy().T, k, tol=1e-12)
    order = np.argsort(-values)
    return values[order], torch.from_numpy(rows[order].copy())


def _columns(halves, part):
    """Columns of the dense Jacobian, one forward derivative each, in batches."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        push = lambda v: torch.func.jvp(halves.decode, (halves.h,), (v[None],))[1][0]  # noqa: E731
        return torch.func.vmap(push, chunk_size=32)(part).flatten(1)


def whole_unet(demo, step: int):
    """The first face's prediction as a function of h that runs the whole UNet, as the authors' does."""
    seen = []
    recording = demo.model.clone()
    recording.set_model_middle_block_after_patch(lambda args: seen.append(args) or {"h": args["h"]})
    demo.module("nodes.host.sampling").sample(
        recording, **demo.settings, latent=demo.latent, seeds=[FACES[0]], on_step=lambda x0: None
    )
    unet, x, timesteps = demo.model.model.diffusion_model, seen[step]["x"], seen[step]["timesteps"]

    def predict(h):
        _, skips, emb = unet.encode(x, timesteps)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return unet.decode(h, skips, emb)

    return predict


def accuracy(values, vectors, truth, rows) -> dict:
    """Largest relative error of the values; largest angle between what the vectors and the exact ones span."""
    span = torch.linalg.qr(vectors.flatten(1).double().T).Q.T
    beyond = torch.linalg.matrix_norm(span - span @ rows.T @ rows, 2)  # the angle's sine, exact where it is small
    return {
        "error of values": float(np.abs(np.array(values) / truth - 1).max()),
        "largest angle": torch.asin(beyond.clamp(max=1)).item(),
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
