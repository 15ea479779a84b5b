"""Two prompts become a slider: pairs are summed while they are sampled, and 1 is the way between the prompts."""

import pytest
import torch
from demo_faces import folder_of
from models import conditioning, sd15, sigmas

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def sd():
    return sd15()


@pytest.fixture
def find(faces, sd, tmp_path):
    """Find Direction (Prompts) on a small random SD 1.5, unless another model is given."""

    def run(count: int = 6, folder: str = "banks", model=sd, prompts=None, size: int = 16, steps: int = 2):
        latent = {"samples": torch.zeros(1, 4, size, size)}
        with folder_of("hspace_banks", tmp_path / folder), torch.inference_mode():
            return faces.node("HSpaceFindFromPrompts").execute(
                model, *(prompts or map(conditioning, (1, 2, 3))), faces.euler, sigmas(model, steps), latent, "smile",
                count, 0, 4, 3.0, "positive",
            ).result  # fmt: skip

    return run


@pytest.fixture
def calls(faces, monkeypatch):
    """The seeds of each sampling of the pairs; the one after `calls.left` others is interrupted."""
    recording = faces.module("nodes.host.pair_recording")
    sample = recording.sample

    class Calls(list):
        left = 100

        def __call__(self, *args, **kwargs):
            if len(self) == self.left:
                raise InterruptedError
            self.append(list(kwargs["seeds"]))
            return sample(*args, **kwargs)

    calls = Calls()
    monkeypatch.setattr(recording, "sample", calls)
    return calls


@pytest.fixture
def judge(pack, host):
    return host.load_classifier("demo attributes (built in)")


def test_strength_1_takes_a_frown_to_the_smile_of_the_other_prompt(find, words, faces, judge, host):
    prompts = [words.encode(text) for text in ("portrait of a smiling person", "portrait of a frowning person", "")]
    direction, _, info = find(12, model=words.model, prompts=prompts, size=32, steps=4)
    assert tuple(direction.deltas) == ("middle", "output.3", "output.6")
    smile = judge.columns.index("smile")

    def smiles(text, model=words.model):
        latents = faces.module("nodes.host.sampling").sample(
            model, positive=words.encode(text), negative=words.encode(""), cfg=3.0, sampler=faces.euler,
            sigmas=sigmas(words.model, 4), latent=words.latent, seeds=range(500, 508), on_step=lambda x0: None,
        )  # fmt: skip
        return judge.scores(words.vae.decode(latents))[:, smile].mean()

    with torch.inference_mode():
        frown, smiling = (smiles(f"portrait of a {word} person") for word in ("frowning", "smiling"))
        edited = smiles("portrait of a frowning person", host.inject(words.model, direction, [1.0]))
    share = float((edited - frown) / (smiling - frown))
    assert "of the way" in info
    assert share == pytest.approx(1, abs=0.25)


def test_interrupted_it_keeps_whole_batches_and_goes_on_to_the_same_direction(find, calls):
    whole, _, info = find(folder="at once")
    calls.clear()
    calls.left = 3
    with pytest.raises(InterruptedError):
        find()
    assert calls == [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5]]
    calls.clear()
    calls.left = 100
    continued, _, info_then = find()
    assert calls == [[4, 5], [4, 5]]
    assert continued == whole
    assert info_then == info


def test_more_seeds_are_added_to_those_that_are_there_and_fewer_are_sampled_anew(find, calls):
    find(count=4)
    calls.clear()
    six = find(count=6)[0]
    assert calls == [[4, 5], [4, 5]]
    calls.clear()
    assert find(count=6)[0] == six
    assert calls == []
    four = find(count=4)[0]
    assert calls == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert four != six


def test_a_damaged_file_is_refused_by_name(find, tmp_path):
    find(count=2)
    (file,) = (tmp_path / "banks").rglob("pairs.safetensors")
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"pairs\.safetensors in .* can't be read .*delete it"):
        find(count=2)


def test_one_prompt_twice_is_refused(find):
    with pytest.raises(ValueError, match=r"The two prompts are the same.*Change a word"):
        find(prompts=[conditioning(1), conditioning(1), conditioning(3)])
