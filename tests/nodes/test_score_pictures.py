"""Score Pictures, by a classifier, by text and from a file."""

import os

import pytest
import torch
from demo_faces import folder_of
from tiny_clip import WIDTH, comfy_clip, comfy_vision, transformers_halves
from torch.nn.functional import normalize

pytestmark = pytest.mark.comfy

TEXTS = "a smiling face", "a serious face"


@pytest.fixture(scope="module")
def scores(faces):
    return faces.nodes


@pytest.fixture(scope="module")
def text(faces):
    return faces.module("nodes.host.clip")


@pytest.fixture
def folder(faces, tmp_path):
    """Score files are looked for in a folder of this test's own."""
    (tmp_path / "banks").mkdir()
    with folder_of("hspace_banks", tmp_path / "banks") as banks:
        yield banks


def by_classifier(scores, bank, vae, classifier, batch_size):
    source = {"source": "classifier", "vae": vae, "classifier": classifier, "batch_size": batch_size}
    return scores.HSpaceScorePictures.execute(bank, source).result


def by_text(scores, bank, vae, clip, vision, texts, batch_size):
    source = {"source": "text", "vae": vae, "clip": clip, "clip_vision": vision, "batch_size": batch_size}
    source |= dict(zip(("text", "opposite"), texts, strict=True))
    return scores.HSpaceScorePictures.execute(bank, source).result


def from_file(name):
    return {"source": "file", "file": name}


def resharded(faces, bank, folder, sizes):
    """The same trajectories in files of other sizes, the last seeds first."""
    steps = [bank.h("middle", step) for step in range(len(bank.timesteps))]
    h, latents, last = torch.stack(steps, 1), bank.latents(), len(bank)
    for size in sizes:
        rows = slice(last - size, last)
        faces.directions.write_shard(
            folder, bank.seeds[rows], timesteps=bank.timesteps, h={"middle": h[rows]}, latents=latents[rows],
            source=bank.source, recipe=bank.recipe,
        )  # fmt: skip
        last -= size
    assert last == 0
    return faces.directions.open_bank(folder)


def test_every_picture_is_scored_as_the_classifier_scores_it_alone(faces, bank, scores):
    judge = faces.module("nodes.host.classifier").load_classifier("demo attributes (built in)")
    result, info = by_classifier(scores, bank, faces.vae, judge, 5)
    one_by_one = torch.cat([judge.scores(faces.vae.decode(bank.latents(i, i + 1))) for i in range(len(bank))])
    # float32 in a batch of another size
    torch.testing.assert_close(result.values, one_by_one, atol=1e-4, rtol=1e-4)
    assert result.columns == judge.columns
    assert result.seeds == bank.seeds
    assert result.scored(bank).seeds == bank.seeds
    assert [line.split(":")[0] for line in info.splitlines()] == list(judge.columns)


def test_scores_do_not_depend_on_the_batch_or_on_the_files_of_the_bank(faces, bank, scores, tmp_path):
    judge = faces.module("nodes.host.classifier").load_classifier("demo attributes (built in)")
    other = resharded(faces, bank, tmp_path, [1, 6, 2, 3])
    assert len(other.shards) == 4 != len(bank.shards)
    first, *rest = [
        by_classifier(scores, which, faces.vae, judge, size)[0]
        for which, size in ((bank, 16), (bank, 1), (other, 5), (other, 12))
    ]
    for result in rest:
        assert result.seeds == first.seeds
        # float32 in a batch of another size
        torch.testing.assert_close(result.values, first.values, atol=1e-4, rtol=1e-4)


# CLIP


@pytest.fixture(scope="module")
def halves():
    return transformers_halves()


@pytest.fixture(scope="module")
def clip(halves):
    return comfy_clip(halves[0].state_dict())


@pytest.fixture(scope="module")
def vision(halves):
    return comfy_vision(halves[1])


def text_oracle(half, clip, text):
    tokens = torch.tensor([[token for token, _ in clip.tokenize(text)["l"][0]]])
    return normalize(half(tokens).text_embeds, dim=-1)


def vision_oracle(half, images):
    """`images (n, 64, 64, 3)`: the size the model takes, so nothing is resized."""
    mean, std = (
        torch.tensor(values).reshape(3, 1, 1)
        for values in ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    )
    pixels = images.clamp(0, 1).mul(255).round().div(255).permute(0, 3, 1, 2)
    return normalize(half((pixels - mean) / std).image_embeds, dim=-1)


def test_a_text_becomes_the_embedding_that_clip_compares_with_pictures(text, halves, clip):
    for prompt in (*TEXTS, "x"):
        embedding = text.text_embedding(clip, prompt)
        # float32, by another attention kernel
        torch.testing.assert_close(embedding, text_oracle(halves[0], clip, prompt), atol=1e-4, rtol=0)


def test_text_embeddings_leave_the_clip_as_prompts_need_it(text, clip):
    def encoded():
        return clip.encode_from_tokens(clip.tokenize("a face"), return_pooled=True)

    before = encoded()
    text.text_embedding(clip, "a face")
    for a, b in zip(encoded(), before, strict=True):
        assert torch.equal(a, b)


def test_pictures_are_scored_by_their_cosine_with_one_text_minus_that_with_the_other(
    scores, faces, bank, text, halves, clip, vision
):
    result, info = by_text(scores, bank, faces.vae, clip, vision, TEXTS, 5)
    with_it, without = (text_oracle(halves[0], clip, entry) for entry in TEXTS)
    expected = vision_oracle(halves[1], faces.vae.decode(bank.latents())) @ (with_it - without).T
    assert expected.std() > 1e-3  # ten times the tolerance
    # float32, by other attention kernels, and now and then a pixel that is rounded to the other side
    torch.testing.assert_close(result.values, expected, atol=1e-4, rtol=0)
    assert result.columns == ("score",)
    assert result.seeds == bank.seeds
    assert info.startswith("score: ")
    swapped, _ = by_text(scores, bank, faces.vae, clip, vision, TEXTS[::-1], 16)
    torch.testing.assert_close(swapped.values, -result.values, atol=1e-5, rtol=0)


def test_a_clip_without_a_text_projection_is_refused(text, halves):
    state = halves[0].state_dict() | {"text_projection.weight": torch.zeros(WIDTH, WIDTH)}
    with pytest.raises(ValueError, match="no text projection"):
        text.text_embedding(comfy_clip(state), "a face")


def test_halves_of_different_clips_are_refused(text, vision):
    images = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="got picture embeddings of 16 numbers, wanted 24"):
        text.similarities(vision, images, torch.ones(2, 24))


# Files


def test_a_csv_in_the_banks_folder_is_read(faces, scores, bank, folder):
    (folder / "mine").mkdir()
    (folder / "mine" / "smiles.csv").write_text("seed,smile,age\n103,0.5,2\n101,-1,3\n", encoding="utf-8-sig")
    (folder / "ages.json").write_text('[{"seed": 104, "age": 7}]')
    assert set(faces.module("nodes.host").score_files()) == {"mine/smiles.csv", "ages.json"}
    result, info = scores.HSpaceScorePictures.execute(bank, from_file("mine/smiles.csv")).result
    assert result.columns == ("smile", "age")
    assert result.seeds == (103, 101)
    assert result.values.tolist() == [[0.5, 2.0], [-1.0, 3.0]]
    assert result.scored(bank).seeds == (103, 101)
    assert info == "smile: -1 to 0.5, mean -0.25\nage: 2 to 3, mean 2.5"


def test_a_file_outside_the_banks_folder_is_neither_listed_nor_read(faces, scores, bank, folder):
    secret = folder.parent / "secret.csv"
    secret.write_text("seed,smile\n103,1\n")
    (folder / "link.csv").symlink_to(secret)
    (folder / "inside.csv").write_text("seed,smile\n103,1\n")
    (folder / "alias.csv").symlink_to(folder / "inside.csv")
    assert set(faces.module("nodes.host").score_files()) == {"inside.csv", "alias.csv"}
    for name in ("link.csv", "../secret.csv", str(secret)):
        with pytest.raises(ValueError, match="wanted one of: alias.csv, inside.csv"):
            scores.HSpaceScorePictures.execute(bank, from_file(name))


def test_a_changed_file_is_read_again(scores, folder):
    path = folder / "smiles.csv"
    path.write_text("seed,smile\n103,1\n")
    fingerprint = lambda: scores.HSpaceScorePictures.fingerprint_inputs(None, from_file("smiles.csv"))  # noqa: E731
    before = fingerprint()
    assert fingerprint() == before
    status = path.stat()
    path.write_text("seed,smile\n103,2\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))  # as long as before, the next moment
    assert fingerprint() != before


def test_only_a_file_is_looked_at_before_a_run(scores):
    """Classifier and CLIP are not there yet when ComfyUI asks whether a node has changed."""
    waiting = {"source": "classifier", "vae": None, "classifier": None, "batch_size": 16}
    assert scores.HSpaceScorePictures.fingerprint_inputs(None, waiting) == ""


def test_with_no_file_the_error_says_where_to_put_one(scores, bank, folder):
    with pytest.raises(ValueError, match=r"none is there. Put a .csv or .json file into models/hspace_banks"):
        scores.HSpaceScorePictures.execute(bank, from_file("none found"))
