"""Captioned latents, and the loop that trains a network on them."""

import argparse
import copy
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from captions import caption
from classifier import to_tensor
from faces import ATTRIBUTES, render_batch
from networks import build_text_encoder, build_vae, encoded
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from words import Words

LEARNING_RATE = 1e-3
FACES = 64_000
SAVE_EVERY = 500


def learning_rate(step: int, steps: int) -> float:
    return LEARNING_RATE * min(1.0, (step + 1) / 100) * min(1.0, (steps - step) / (0.5 * steps))


class CaptionedFaces(Dataset):
    """The batch of each step, after those `seen` by another run.

    Latents of drawn faces `(n, 4, 32, 32)`, and tokens `(n, 77)` of captions of them.
    """

    def __init__(self, vae_file: Path, cache: Path, batch: int, device: torch.device, seen: int = 0):
        if not cache.exists():
            self._draw(vae_file, cache, device)
        held = load_file(cache)
        self.latents, self.attributes = held["latents"], held["attributes"].numpy()
        self.words, self.batch, self.seen = Words(), batch, seen

    @staticmethod
    @torch.no_grad()
    def _draw(vae_file: Path, cache: Path, device: torch.device) -> None:
        vae = build_vae().eval().to(device)
        vae.load_state_dict(load_file(vae_file))
        latents, attributes = [], []
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            for pictures, truth in pool.map(render_batch, repeat(250), range(777_000, 777_000 + FACES // 250)):
                latents += [encoded(vae, part.to(device)).half().cpu() for part in to_tensor(pictures).split(50)]
                attributes.append(torch.from_numpy(truth))
        save_file({"latents": torch.cat(latents).contiguous(), "attributes": torch.cat(attributes)}, cache)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(self.seen + step)
        chosen = rng.integers(len(self.latents), size=self.batch)
        truths = [dict(zip(ATTRIBUTES, self.attributes[i], strict=True)) for i in chosen]
        tokens = self.words.tokens([caption(truth, rng)[0] for truth in truths], rng)
        return self.latents[torch.from_numpy(chosen)].float(), tokens


@dataclass(frozen=True, eq=False)
class Said:
    """Captions, and what the frozen text encoder makes of them."""

    tokens: Tensor
    """`(n, 77)`."""
    words: Tensor
    """`(n, 77, 64)`."""
    summary: Tensor
    """`(n, 64)`: what it has at the end of the caption."""


Loss = Callable[[nn.Module, Tensor, Said], Tensor]
"""Of a network, clean latents and their captions."""


class Training:
    """A network, its running average and the optimiser: what a checkpoint holds."""

    def __init__(self, network: nn.Module, loss: Loss, text_file: Path, steps: int, device: torch.device):
        self.loss, self.steps, self.device = loss, steps, device
        self.text = build_text_encoder().eval().requires_grad_(False).to(device)
        self.text.load_state_dict(load_file(text_file))
        self.network = network.train().to(device)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.parameters = dict(self.network.named_parameters())
        self.optimiser = torch.optim.AdamW(self.parameters.values(), weight_decay=1e-4, betas=(0.9, 0.99), fused=True)
        self.step, self.seconds = 0, 0.0

    def advance(self, latents: Tensor, tokens: Tensor) -> Tensor:
        """One step; the loss, left on the device."""
        torch.manual_seed(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self.steps)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            encoded = self.text(tokens.to(self.device))
            said = Said(tokens, encoded.last_hidden_state, encoded.pooler_output)
            loss = self.loss(self.network, latents.to(self.device), said)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.step += 1
        decay = min(0.998, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            averages = [self.average.get_parameter(name) for name in self.parameters]
            torch._foreach_lerp_(averages, list(self.parameters.values()), 1 - decay)
        return loss.detach()

    def save(self, file: Path) -> None:
        tensors = {}
        for name, parameter in self.parameters.items():
            moments = self.optimiser.state[parameter]
            tensors |= {f"now.{name}": parameter.data, f"average.{name}": self.average.get_parameter(name)}
            tensors |= {f"first.{name}": moments["exp_avg"], f"second.{name}": moments["exp_avg_sq"]}
        partial = file.with_suffix(".partial")
        save_file(tensors, partial, metadata={"step": str(self.step), "seconds": str(self.seconds)})
        partial.rename(file)

    def resume(self, file: Path) -> None:
        with safe_open(file, "pt", device=str(self.device)) as saved:
            self.step, self.seconds = int(saved.metadata()["step"]), float(saved.metadata()["seconds"])
            for name, parameter in self.parameters.items():
                parameter.data.copy_(saved.get_tensor(f"now.{name}"))
                self.average.get_parameter(name).copy_(saved.get_tensor(f"average.{name}"))
                self.optimiser.state[parameter] = {
                    "step": torch.tensor(float(self.step), device=self.device),
                    "exp_avg": saved.get_tensor(f"first.{name}"),
                    "exp_avg_sq": saved.get_tensor(f"second.{name}"),
                }


def run(training: Training, faces: CaptionedFaces, workers: int, state: Path) -> None:
    """Train to the last step, from the saved state if there is one; a line every hundred steps."""
    if state.exists():
        training.resume(state)
    steps = range(training.step, training.steps)
    losses, started, before = [], time.perf_counter(), training.seconds
    for batch in DataLoader(faces, batch_size=None, sampler=steps, num_workers=workers):
        losses.append(training.advance(*batch))
        if training.step % 100 == 0:
            training.seconds = before + time.perf_counter() - started
            mean = torch.stack(losses[-100:]).mean().item()
            print(f"{training.step} loss {mean:.4f}, {training.seconds:.1f} s", flush=True)
        if training.step % SAVE_EVERY == 0 or training.step == training.steps:
            training.save(state)


def begin_with(network: nn.Module, state: Path) -> int:
    """Give `network` the average of another run; how many batches that one has seen."""
    with safe_open(state, "pt") as saved:
        network.load_state_dict({name: saved.get_tensor(f"average.{name}") for name, _ in network.named_parameters()})
        return int(saved.metadata()["step"])


def command_line(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", type=Path, required=True, help="what train_vae.py made")
    parser.add_argument("--text", type=Path, required=True, help="what train_text.py made")
    parser.add_argument("--init", type=Path, help="the state of another run, whose average to begin with")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", type=torch.device, default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="processes that write captions; a card needs 5")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    return options


def train(network: nn.Module, loss: Loss, options: argparse.Namespace) -> None:
    seen = begin_with(network, options.init) if options.init else 0
    cache = options.out / "faces.safetensors"
    faces = CaptionedFaces(options.vae, cache, options.batch, options.device, seen)
    training = Training(network, loss, options.text, options.steps, options.device)
    run(training, faces, options.workers, options.out / "training_state.safetensors")
