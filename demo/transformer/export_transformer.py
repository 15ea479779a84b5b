"""Put what was trained into one file of half precision, as `demo/prompted/export.py` does for the UNet.

    python demo/transformer/export_transformer.py --vae OUT/vae.safetensors --text OUT/text.safetensors \\
        --state OUT/training_state.safetensors
"""

from pathlib import Path

from export import command_line
from network import FLUX

if __name__ == "__main__":
    command_line(__doc__, Path(__file__).with_name("faces.safetensors"), {"transformer": FLUX})
