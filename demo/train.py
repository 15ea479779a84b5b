"""Train the demo model: a 64x64 pixel DDPM of the faces of `faces.py`, predicting v.

    python demo/train.py --steps 7000 --init FOLDER --out demo/ddpm

Every batch is drawn from its step's number, so a run that is stopped and started again continues to the same bits
it would have reached undisturbed, and no picture is seen twice.

Skip dropout makes the bottleneck carry the meaning. Each up block below full resolution loses its skips with a
probability of .6, sample by sample, so that what the face *is* has to pass through h; over the last quarter of the
steps the probability is .2, so that the skips sharpen the picture again. Nothing is dropped when sampling. The learning
rate is constant and falls linearly to zero over the last 30 % of the steps.
"""

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import DDPMScheduler, UNet2DModel
from faces import render_batch
from safetensors import safe_open
from safetensors.torch import save_file

BATCH = 16
LEARNING_RATE = 5e-4
SAVE_EVERY = 200
STATE = "training_state.safetensors"


def build_unet() -> UNet2DModel:
    """2.7 million parameters; h is 128x8x8."""
    return UNet2DModel(
        sample_size=64,
        layers_per_block=1,
        block_out_channels=(16, 32, 64, 128),
        down_block_types=("DownBlock2D", "DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=32,
    )


def build_scheduler() -> DDPMScheduler:
    return DDPMScheduler(1000, beta_schedule="linear", clip_sample=False, prediction_type="v_prediction")


def skip_dropout(step: int, steps: int) -> float:
    return 0.6 if step < 0.75 * steps else 0.2


def drop_skips(unet: UNet2DModel, probability: Callable[[], float]) -> None:
    """Let every up block but the last lose all its skips for a share of the samples, while training."""

    def drop(block, args):
        if not block.training:
            return args
        sample, skips, *rest = args
        keep = (torch.rand(len(sample), 1, 1, 1) >= probability()).to(sample)
        return sample, tuple(skip * keep for skip in skips), *rest

    for block in unet.up_blocks[:-1]:
        block.register_forward_pre_hook(drop)


def learning_rate(step: int, steps: int) -> float:
    warm_up = min(1.0, (step + 1) / 100)
    decay = min(1.0, (steps - step) / (0.3 * steps))
    return LEARNING_RATE * warm_up * decay


def loss_at(unet: UNet2DModel, scheduler: DDPMScheduler, step: int) -> torch.Tensor:
    """Mean squared error of v on the batch that belongs to `step`, its timesteps spread evenly."""
    torch.manual_seed(step)
    pictures, _ = render_batch(BATCH, seed=step)
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1  # NHWC -> NCHW
    timesteps = ((torch.arange(BATCH) + torch.rand(1)) / BATCH * 1000).long()
    noise = torch.randn_like(x)
    v = unet(scheduler.add_noise(x, noise, timesteps), timesteps).sample
    return (v - scheduler.get_velocity(x, noise, timesteps)).square().mean()


class Training:
    """The model, its running average and the optimiser: what a checkpoint holds."""

    def __init__(self, unet: UNet2DModel, steps: int):
        self.unet = unet.float().train()
        drop_skips(self.unet, lambda: skip_dropout(self.step, steps))
        self.average = copy.deepcopy(self.unet).eval().requires_grad_(False)
        self.optimiser = torch.optim.AdamW(unet.parameters(), weight_decay=1e-4, betas=(0.9, 0.99), fused=True)
        self.steps = steps
        self.step = 0
        self.seconds = 0.0

    def advance(self, scheduler: DDPMScheduler) -> float:
        started = time.perf_counter()
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self.steps)
        loss = loss_at(self.unet, scheduler, self.step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.step += 1
        decay = min(0.998, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.unet.parameters()), 1 - decay)
        self.seconds += time.perf_counter() - started
        return loss.item()

    def save(self, out: Path) -> None:
        tensors = {}
        for name, parameter in self.unet.named_parameters():
            moments = self.optimiser.state[parameter]
            tensors |= {f"unet.{name}": parameter.data, f"average.{name}": self.average.get_parameter(name)}
            tensors |= {f"first.{name}": moments["exp_avg"], f"second.{name}": moments["exp_avg_sq"]}
        partial = out / (STATE + ".partial")
        save_file(tensors, partial, metadata={"step": str(self.step), "seconds": str(self.seconds)})
        partial.rename(out / STATE)

    def restore(self, out: Path) -> None:
        with safe_open(out / STATE, "pt") as file, torch.no_grad():
            self.step = int(file.metadata()["step"])
            self.seconds = float(file.metadata()["seconds"])
            for name, parameter in self.unet.named_parameters():
                parameter.copy_(file.get_tensor(f"unet.{name}"))
                self.average.get_parameter(name).copy_(file.get_tensor(f"average.{name}"))
                self.optimiser.state[parameter] = {
                    "step": torch.tensor(float(self.step)),
                    "exp_avg": file.get_tensor(f"first.{name}"),
                    "exp_avg_sq": file.get_tensor(f"second.{name}"),
                }

    def publish(self, out: Path, scheduler: DDPMScheduler) -> None:
        """The running average in half precision, in diffusers format."""
        copy.deepcopy(self.average).half().save_pretrained(out)
        scheduler.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--init", type=Path, help="diffusers folder to start from instead of random weights")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    scheduler = build_scheduler()
    unet = build_unet()
    if options.init:
        unet.load_state_dict(UNet2DModel.from_pretrained(options.init).state_dict())
    training = Training(unet, options.steps)
    if (options.out / STATE).exists():
        training.restore(options.out)
    losses = []
    while training.step < options.steps:
        losses.append(training.advance(scheduler))
        if training.step % SAVE_EVERY == 0 or training.step == options.steps:
            recent = sum(losses[-SAVE_EVERY:]) / len(losses[-SAVE_EVERY:])
            print(f"step {training.step}: loss {recent:.4f}, {training.seconds / 60:.1f} minutes", flush=True)
            training.save(options.out)
            training.publish(options.out, scheduler)


if __name__ == "__main__":
    main()
