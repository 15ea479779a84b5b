"""Compare Sites: the same slider at each site, beside the prompt, on the faces that listen to words."""

import json

import pytest
import torch
from demo_faces import folder_of
from models import sigmas

pytestmark = pytest.mark.comfy


def test_a_smile_is_at_the_levels_and_not_at_the_bottleneck(faces, words, host, tmp_path):
    """As in docs/prompted.md: nothing at the bottleneck, the word's own at all together. The table says how."""
    prompts = [words.encode(f"portrait of a {word} person") for word in ("smiling", "frowning")] + [words.encode("")]
    with folder_of("hspace_banks", tmp_path), torch.inference_mode():
        sheet, table = faces.node("HSpaceCompareSites").execute(
            words.model, *prompts, faces.euler, sigmas(words.model, 4), words.latent, words.vae, 12, 4, 0, "0, 1, 2",
            12, 3.0, 64,
        ).result  # fmt: skip
    table = json.loads(table)
    reached = {name: max(each["along"]) for name, each in table["sites"].items()}
    assert list(reached) == ["middle", "output.3", "output.6", "all together"]
    assert abs(reached["middle"]) < 0.3
    assert reached["output.6"] > 0.4
    assert reached["all together"] > 0.8
    assert table["model"]["family"] == host.model_family(words.model)
    assert (table["steps"], table["cfg"], table["pairs"], table["pictures"]) == (4, 3.0, 12, 4)
    assert table["prompt"]["along"] == pytest.approx(1)
    assert all(each["strengths"] == [1.0, 2.0] for each in table["sites"].values())  # 0 is the picture without it
    height, width, channels = sheet.shape[1:]
    assert channels == 3 and height > 4 * 64 + 200 and width > 4 * 64  # curves, and a row for each site
