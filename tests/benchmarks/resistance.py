"""Why edits of pictures the model has not made come out weaker than edits of its own.

    python -m pytest -s tests/benchmarks/resistance.py        (five minutes on two cores)

An edit moves the prediction at each step, and what it has moved so far is a change in the noisy picture of the next
step, of which the model keeps a share. Both are measured at the same noise, on renders and on the model's own faces.
Sampled long enough at one level, the change would settle at `moved / (1 - kept)`.
Strengths are those of docs/real_images.json, of which it writes a part.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from real_images import RENDERS, RESULTS, SEEDS, STEPS, demo, found, to_latents  # noqa: F401, the fixtures
from results import known, remember, rounded

from demo.faces import Face, render, render_batch

pytestmark = pytest.mark.comfy

LEVELS, TARGETS = 10, ("smile", "hair_length")
RENDERED = {"smile": 0.5, "hair_length": 0.2}
"""How far the renderer moves an attribute, away from the end that is nearer."""


def test_the_model_keeps_less_of_a_change_in_a_render(demo, found):  # noqa: F811
    sigmas = demo.sigmas(LEVELS)
    noise = torch.randn(LEVELS, RENDERS, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    generated = demo.latents(SEEDS, sigmas=demo.sigmas(STEPS))
    pictures, rows = render_batch(RENDERS, seed=77_000_000)
    renders = to_latents(pictures)
    results: dict = {"sigma": sigmas[:-1].tolist()}
    for name in TARGETS:
        edit = (found[name], known(RESULTS)["edits"]["strengths"][name])
        edited = demo.latents(SEEDS, [edit], sigmas=demo.sigmas(STEPS))
        pairs = {"generated": (generated, edited), "renders": (renders, rendered(rows, name))}
        for kind, (plain, changed) in pairs.items():
            before = predictions(demo, plain, sigmas, noise)
            moved = predictions(demo, plain, sigmas, noise, edit) - before
            answer, change = predictions(demo, changed, sigmas, noise) - before, changed - plain
            kept = (answer * change).sum((2, 3, 4)) / change.square().sum((1, 2, 3))
            size = moved.square().mean((1, 2, 3, 4)).sqrt()
            results[f"{name}, {kind}"] = {"moved": size.tolist(), "kept": kept.mean(1).tolist()}
        print(name, {key: rounded(value) for key, value in results.items() if key.startswith(name)}, flush=True)
    remember(RESULTS, "resistance", results)


def rendered(rows: np.ndarray, name: str) -> torch.Tensor:
    """The same faces with one attribute moved."""
    faces = [Face(*row) for row in rows.tolist()]
    moved = [
        replace(face, **{name: getattr(face, name) + RENDERED[name] * (-1 if getattr(face, name) > 0.5 else 1)})
        for face in faces
    ]
    return to_latents(np.stack([np.asarray(render(face)) for face in moved]))


def predictions(demo, pictures, sigmas, noise, edit=None) -> torch.Tensor:  # noqa: F811
    """What the model predicts `(levels, n, ...)` for pictures under the noise of each sigma."""
    import comfy.samplers

    seen: list[torch.Tensor] = []

    def look(model, x, sigmas, extra_args=None, callback=None, disable=None):
        for sigma, draw in zip(sigmas[:-1], noise, strict=True):
            seen.append(model(pictures + sigma * draw, sigma.expand(len(pictures)), **extra_args).clone())
        return x

    model = demo.module("nodes.host").inject(demo.model, edit[0], [edit[1]]) if edit else demo.model
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(demo.empty, demo.empty)
    guider.set_cfg(1.0)
    guider.sample(torch.zeros_like(pictures), pictures, comfy.samplers.KSAMPLER(look), sigmas, disable_pbar=True)
    return torch.stack(seen)
