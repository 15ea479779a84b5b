"""Train the text encoder of the prompted faces before the UNet, as Stable Diffusion's was: to understand captions.

    python demo/prompted/train_text.py --out OUT

From what it makes of a caption, at any token from the caption's end on, a linear layer is to tell which words it says.
The layer is thrown away; no picture is needed.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from captions import WORDS, caption
from faces import ATTRIBUTES, render_batch
from networks import TEXT, build_text_encoder
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from words import Words

BATCH, LEARNING_RATE = 64, 2e-3
FACES = 4000


def train(steps: int, out: Path) -> None:
    torch.manual_seed(0)
    words, encoder, reader = Words(), build_text_encoder().train(), nn.Linear(TEXT["hidden_size"], len(WORDS))
    faces = [dict(zip(ATTRIBUTES, row, strict=True)) for row in render_batch(FACES, 31)[1]]
    parameters = [*encoder.parameters(), *reader.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    started, right = time.perf_counter(), []
    for step in range(steps):
        rng = np.random.default_rng(step)
        said = [caption(faces[i], rng) for i in rng.integers(FACES, size=BATCH)]
        wanted = torch.tensor([[name in names for name in WORDS] for _, names in said]).float()
        tokens = words.tokens([text for text, _ in said], rng)
        end = (tokens != words.end).sum(1).clamp(max=tokens.shape[1] - 1)  # the first of the end's tokens
        at = end + (torch.rand(BATCH) * (tokens.shape[1] - end)).long()
        read = reader(encoder(tokens).last_hidden_state[torch.arange(BATCH), at])
        loss = binary_cross_entropy_with_logits(read, wanted)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        right.append(((read > 0) == (wanted > 0.5)).all(1).float().mean().item())
        if (step + 1) % 100 == 0:
            share, minutes = sum(right[-100:]) / 100, (time.perf_counter() - started) / 60
            print(f"{step + 1} captions understood in every word {share:.3f}, {minutes:.1f} min", flush=True)
    save_file({name: weight.contiguous() for name, weight in encoder.state_dict().items()}, out / "text.safetensors")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    train(options.steps, options.out)
