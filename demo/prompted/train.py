"""Train the UNet of the prompted faces, plainly: nothing is dropped but words. VAE and text encoder are left alone.

    python demo/prompted/train.py --vae OUT/vae.safetensors --text OUT/text.safetensors --steps 5000 --out OUT

A v-prediction model on Stable Diffusion's noise schedule. Started again, it goes on from its last saved state.
"""

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import torch
from captions import caption
from classifier import to_tensor
from faces import ATTRIBUTES, render_batch
from networks import build_text_encoder, build_unet, build_vae, encoded
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from words import Words

BATCH = 16
LEARNING_RATE = 1e-3
FACES = 32_000
SAVE_EVERY = 250
ALPHAS = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0).float()


def learning_rate(step: int, steps: int) -> float:
    return LEARNING_RATE * min(1.0, (step + 1) / 100) * min(1.0, (steps - step) / (0.5 * steps))


class Faces:
    """Latents of drawn faces `(n, 4, 32, 32)` and what is true of them, kept in a file once made."""

    def __init__(self, vae_file: Path, cache: Path):
        if not cache.exists():
            self._draw(vae_file, cache)
        held = load_file(cache)
        self.latents, self.attributes = held["latents"], held["attributes"].numpy()

    @staticmethod
    @torch.inference_mode()
    def _draw(vae_file: Path, cache: Path) -> None:
        vae = build_vae().eval()
        vae.load_state_dict(load_file(vae_file))
        latents, attributes = [], []
        for seed in range(FACES // 250):
            pictures, truth = render_batch(250, 777_000 + seed)
            latents += [encoded(vae, part).half() for part in to_tensor(pictures).split(50)]
            attributes.append(torch.from_numpy(truth))
        save_file({"latents": torch.cat(latents).contiguous(), "attributes": torch.cat(attributes)}, cache)

    def batch(self, rng: np.random.Generator) -> tuple[torch.Tensor, list[str]]:
        chosen = rng.integers(len(self.latents), size=BATCH)
        truths = [dict(zip(ATTRIBUTES, self.attributes[i], strict=True)) for i in chosen]
        return self.latents[chosen].float(), [caption(truth, rng)[0] for truth in truths]


class Training:
    """The UNet, its running average and the optimiser: what a checkpoint holds."""

    def __init__(self, faces: Faces, text_file: Path, steps: int, init: Path | None):
        torch.manual_seed(0)
        self.faces, self.words, self.steps = faces, Words(), steps
        self.text = build_text_encoder().eval().requires_grad_(False)
        self.text.load_state_dict(load_file(text_file))
        self.unet = build_unet().train()
        self.step, self.seconds, self.seen = 0, 0.0, 0
        if init:
            self._begin_with(init)
        self.average = copy.deepcopy(self.unet).eval().requires_grad_(False)
        self.parameters = dict(self.unet.named_parameters())
        self.optimiser = torch.optim.AdamW(self.parameters.values(), weight_decay=1e-4, betas=(0.9, 0.99), fused=True)

    def _begin_with(self, state: Path) -> None:
        """The average of another run, and the batches that come after its."""
        with safe_open(state, "pt") as saved:
            self.seen = int(saved.metadata()["step"])
            prefix = "average.unet."
            names = [name for name in saved.keys() if name.startswith(prefix)]  # noqa: SIM118, it has no other
            self.unet.load_state_dict({name.removeprefix(prefix): saved.get_tensor(name) for name in names})

    def loss(self) -> torch.Tensor:
        """Mean squared error of v on the batch that belongs to this step, its timesteps spread evenly."""
        torch.manual_seed(self.seen + self.step)
        rng = np.random.default_rng(self.seen + self.step)
        latents, texts = self.faces.batch(rng)
        timesteps = ((torch.arange(BATCH) + torch.rand(1)) / BATCH * 1000).long()
        alpha = ALPHAS[timesteps].view(-1, 1, 1, 1)
        noise = torch.randn_like(latents)
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        wanted = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
        context = self.text(self.words.tokens(texts, rng)).last_hidden_state
        return (self.unet(noisy, timesteps, context=context) - wanted).square().mean()

    def advance(self) -> float:
        started = time.perf_counter()
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self.steps)
        loss = self.loss()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.step += 1
        decay = min(0.998, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            averages = [self.average.get_parameter(name) for name in self.parameters]
            torch._foreach_lerp_(averages, list(self.parameters.values()), 1 - decay)
        self.seconds += time.perf_counter() - started
        return loss.item()

    def save(self, file: Path) -> None:
        tensors = {}
        for name, parameter in self.parameters.items():
            moments = self.optimiser.state[parameter]
            tensors |= {f"now.unet.{name}": parameter.data, f"average.unet.{name}": self.average.get_parameter(name)}
            tensors |= {f"first.{name}": moments["exp_avg"], f"second.{name}": moments["exp_avg_sq"]}
        partial = file.with_suffix(".partial")
        save_file(tensors, partial, metadata={"step": str(self.step), "seconds": str(self.seconds)})
        partial.rename(file)

    def resume(self, file: Path) -> None:
        with safe_open(file, "pt") as saved:
            self.step, self.seconds = int(saved.metadata()["step"]), float(saved.metadata()["seconds"])
            for name, parameter in self.parameters.items():
                parameter.data.copy_(saved.get_tensor(f"now.unet.{name}"))
                self.average.get_parameter(name).copy_(saved.get_tensor(f"average.unet.{name}"))
                self.optimiser.state[parameter] = {
                    "step": torch.tensor(float(self.step)),
                    "exp_avg": saved.get_tensor(f"first.{name}"),
                    "exp_avg_sq": saved.get_tensor(f"second.{name}"),
                }


def train(vae_file: Path, text_file: Path, steps: int, out: Path, init: Path | None) -> None:
    training = Training(Faces(vae_file, out / "faces.safetensors"), text_file, steps, init)
    state = out / "training_state.safetensors"
    if state.exists():
        training.resume(state)
    losses = []
    while training.step < steps:
        losses.append(training.advance())
        if training.step % 100 == 0:
            mean = sum(losses[-100:]) / len(losses[-100:])
            print(f"{training.step} loss {mean:.4f}, {training.seconds / 60:.1f} min", flush=True)
        if training.step % SAVE_EVERY == 0 or training.step == steps:
            training.save(state)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", type=Path, required=True, help="what train_vae.py made")
    parser.add_argument("--text", type=Path, required=True, help="what train_text.py made")
    parser.add_argument("--init", type=Path, help="the state of another run, whose average to begin with")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    train(options.vae, options.text, options.steps, options.out, options.init)
