"""Put what the three trainings made into one file of half precision, laid out as Stable Diffusion 1.x.

    python demo/prompted/export.py --vae OUT/vae.safetensors --text OUT/text.safetensors \\
        --state OUT/training_state.safetensors

Only the rows of known tokens are kept; the last row stands for all others.
"""

import argparse
import json
from pathlib import Path

import torch
from classifier import to_tensor
from faces import render_batch
from networks import TEXT, UNET, VAE, build_vae, encoded
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional
from words import UNKNOWN, Words

TARGET = Path(__file__).with_name("faces.safetensors")
UNET_PREFIX, VAE_PREFIX = "model.diffusion_model.", "first_stage_model."
TEXT_PREFIX = "cond_stage_model.clip_l.transformer."
WORDS_TABLE = f"{TEXT_PREFIX}text_model.embeddings.token_embedding.weight"


def latent_colours(vae_weights: dict[str, torch.Tensor]) -> list[list[float]]:
    """For previews: the colour of a latent, a row for each channel and one to add, by least squares on 200 faces."""
    vae = build_vae().eval()
    vae.load_state_dict(vae_weights)
    pictures = to_tensor(render_batch(200, 5)[0])
    with torch.inference_mode():
        latents = encoded(vae, pictures).permute(0, 2, 3, 1).reshape(-1, 4)
    colours = functional.avg_pool2d(pictures, 2).permute(0, 2, 3, 1).reshape(-1, 3)
    rows = torch.linalg.lstsq(torch.cat([latents, torch.ones(len(latents), 1)], 1), colours).solution
    return [[round(value, 4) for value in row] for row in rows.tolist()]


def export(vae_file: Path, text_file: Path, state: Path, target: Path, network: dict[str, dict]) -> None:
    """`network` are the settings of what was trained, by its kind."""
    vae, known = load_file(vae_file), torch.tensor(Words().known)
    tensors = {f"{VAE_PREFIX}{name}": weight for name, weight in vae.items()}
    for name, weight in load_file(text_file).items():
        tensors[f"{TEXT_PREFIX}text_model.{name.removeprefix('text_model.')}"] = weight
    with safe_open(state, "pt") as saved:
        for name in saved.keys():  # noqa: SIM118, it has no other
            if name.startswith("average."):
                tensors[UNET_PREFIX + name.removeprefix("average.")] = saved.get_tensor(name)
        step = saved.metadata()["step"]
    tensors[WORDS_TABLE] = tensors[WORDS_TABLE][torch.cat([known, torch.tensor([UNKNOWN])])]
    tensors[f"{TEXT_PREFIX}text_projection.weight"] = torch.eye(TEXT["hidden_size"])
    tensors = {name: weight.half().contiguous() for name, weight in tensors.items()} | {"known_tokens": known}
    settings = {**network, "text": TEXT, "vae": VAE, "latent_rgb": latent_colours(vae)}
    save_file(tensors, target, metadata={"format": "pt", "settings": json.dumps(settings), "steps": step})


def command_line(description: str | None, target: Path, network: dict[str, dict]) -> None:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=target)
    options = parser.parse_args()
    export(options.vae, options.text, options.state, options.out, network)


if __name__ == "__main__":
    command_line(__doc__, TARGET, {"unet": UNET})
