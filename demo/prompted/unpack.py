"""Take VAE and text encoder out of the checkpoint again, to train another network with them: `export.py` backwards.

python demo/prompted/unpack.py --out OUT
"""

import argparse
from pathlib import Path

from export import TARGET, TEXT_PREFIX, VAE_PREFIX, WORDS_TABLE
from networks import TEXT
from safetensors.torch import load_file, save_file


def unpack(checkpoint: Path, out: Path) -> None:
    """`vae.safetensors` and `text.safetensors`, float32."""
    tensors = load_file(checkpoint)
    known, rows = tensors.pop("known_tokens"), tensors[WORDS_TABLE]
    words = rows[-1].repeat(TEXT["vocab_size"], 1)
    words[known] = rows[:-1]
    tensors[WORDS_TABLE] = words
    for prefix, name in ((VAE_PREFIX, "vae"), (f"{TEXT_PREFIX}text_model.", "text")):
        part = {key.removeprefix(prefix): each.float() for key, each in tensors.items() if key.startswith(prefix)}
        save_file(part, out / f"{name}.safetensors")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=TARGET)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    unpack(options.checkpoint, options.out)
