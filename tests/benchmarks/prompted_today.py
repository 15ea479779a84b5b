"""What each finder does at the bottleneck of the prompted faces: docs/prompted.md.

python -m pytest -s tests/benchmarks/prompted_today.py            (a quarter of an hour on two cores)
"""

import pytest
import torch
from demo_faces import folder_of, node_classes
from prompted import prompts
from prompted_model import CFG, PromptedModel
from prompted_page import FINDERS, REAL, keep

STEPS, SEEDS, COUNT = 10, 32, 192
STRENGTHS = (1.0, 3.0)
PICTURES, INVERSION_STEPS = 16, 50
PLAIN = "portrait of a person"

pytestmark = pytest.mark.comfy


class Today:
    """The faces, the fresh seeds, and how far a model patched with an edit moves them."""

    def __init__(self, pack, banks):
        import comfy.samplers

        self.faces, self.nodes, self.banks = PromptedModel(pack), node_classes(pack), banks
        self.euler = comfy.samplers.sampler_object("euler")
        self.texts, self.seeds = prompts(SEEDS, seed=21), range(40_000, 40_000 + SEEDS)
        self.plain = self.scores(self.faces.model)
        self.sd = self.faces.spread(prompts(128, seed=5), STEPS)
        (self.bank,) = self.faces.recorded(banks, {"plain": PLAIN}, range(COUNT), steps=STEPS)

    def draw(self, texts, seeds, **settings):
        return self.faces.pictures(texts, seeds, steps=STEPS, **settings)

    def scores(self, model, **settings):
        return self.faces.scores(self.draw(self.texts, self.seeds, model=model, **settings))

    def moved(self, direction) -> dict[str, list[float]]:
        """The mean change of each attribute at each strength, in standard deviations."""
        host, model = self.faces.host, self.faces.model
        return self._changes(self.plain, [self.scores(host.inject(model, direction, [s])) for s in STRENGTHS])

    def moved_by_asyrp(self, direction) -> dict[str, list[float]]:
        """The same for Asyrp Sampler with its own settings, against what it draws without an edit."""

        def drawn(strength: float):
            (sampler,) = self.nodes.HSpaceAsyrpSampler.execute(direction, strength, 0.8, 0.83, "both", "resize").result
            return self.scores(self.faces.model, sampler=sampler)

        return self._changes(drawn(0.0), [drawn(strength) for strength in STRENGTHS])

    def _changes(self, plain, edited) -> dict[str, list[float]]:
        rows = torch.stack([(scores - plain).mean(0) / self.sd for scores in edited])
        return dict(zip(self.faces.judge.columns, rows.T.tolist(), strict=True))

    def from_scores(self, attribute: str):
        return self.faces.direction_from_scores(self.bank, self.faces.scores_of(self.bank), attribute)

    def run(self, text: str = PLAIN) -> tuple:
        """What the nodes take to sample: model, positive, negative, sampler, sigmas, latent."""
        positive, negative = self.faces.prompts([text]), self.faces.prompts([""])
        return self.faces.model, positive, negative, self.euler, self.faces.sigmas(STEPS), self.faces.empty

    def note(self, name: str, moved: dict[str, list[float]], attribute: str | None = None) -> None:
        """Keep the attribute asked for, or the one that moves most."""
        best = attribute or max(moved, key=lambda each: abs(moved[each][-1]))
        print(f"{name:44} {best:12} " + " ".join(f"{value:+.2f}" for value in moved[best]), flush=True)
        keep(f"{FINDERS}{name}", {"attribute": best, "moved": moved})


@pytest.fixture(scope="module")
def today(pack, tmp_path_factory):
    return Today(pack, tmp_path_factory.mktemp("banks"))


@pytest.mark.parametrize("attribute", ["smile", "glasses"])
def test_directions_from_scores(today, attribute):
    today.note(f"scores, {attribute}", today.moved(today.from_scores(attribute)), attribute)


def test_asyrp(today):
    today.note("scores, smile, in Asyrp Sampler", today.moved_by_asyrp(today.from_scores("smile")), "smile")


@pytest.mark.parametrize(
    ("attribute", "words"), [("smile", ("smiling", "frowning")), ("glasses", ("glasses", "no glasses"))]
)
def test_directions_from_prompts(today, attribute, words):
    runs = {word: f"{PLAIN}, {word}" for word in words}
    banks = today.faces.recorded(today.banks, runs, range(96), steps=STEPS)
    found = today.faces.directions.find_from_examples(*banks, paired=True, name=attribute)
    today.note(f"prompts, {attribute}", today.moved(found.direction), attribute)


def test_components(today):
    found = today.faces.directions.find_components(today.bank, 5, span="each timestep")
    for number, direction in enumerate(found, 1):
        today.note(f"PCA {number}", today.moved(direction))


def test_a_direction_learnt_under_the_classifier(today):
    kind = {"kind": "classifier", "classifier": today.faces.judge, "column": "smile", "others": ""}
    (objective,) = today.nodes.HSpaceSetObjective.execute(kind).result
    model, positive, negative, sampler, sigmas, latent = today.run()
    with folder_of("hspace_banks", today.banks):
        found = today.nodes.HSpaceLearnDirection.execute(
            model, positive, negative, sampler, sigmas, latent, today.faces.vae, objective, "smile", "constant", 64, 0,
            40, 0.005, 1.0, 16, CFG, "positive", "middle",
        ).result[0]  # fmt: skip
    today.note("learnt under the classifier, smile", today.moved(found), "smile")


def test_directions_of_the_jacobian(today):
    model, positive, negative, sampler, sigmas, latent = today.run()
    found = today.nodes.HSpaceFindJacobian.execute(
        model, positive, negative, sampler, sigmas, latent, 0, "0.4", 3, CFG, 10, "positive", sites="middle"
    ).result[0]
    for number, direction in enumerate(found, 1):
        today.note(f"Jacobian {number}", today.moved(direction))


@pytest.mark.parametrize("method", ["edit-friendly DDPM", "DDIM"])
@torch.no_grad()
def test_pictures_it_has_not_made(today, method):
    """Faces as the data has them, inverted under guidance: how they come back, and what moves them."""
    from classifier import to_tensor
    from comfy_extras.nodes_custom_sampler import CFGGuider, SamplerCustomAdvanced
    from faces import render_batch

    faces = today.faces
    pictures = to_tensor(render_batch(PICTURES, seed=77_000_000)[0])
    latent = {"samples": faces.vae.encode((pictures.movedim(1, -1) + 1) / 2)}
    model, positive, negative, *_ = today.run()
    with folder_of("hspace_banks", today.banks):
        noise, latent, sampler, sigmas, _, info = today.nodes.HSpaceInvertImage.execute(
            model,
            positive,
            negative,
            latent,
            faces.sigmas(INVERSION_STEPS),
            method,
            0,
            0,
            method,
            PICTURES,
            CFG,
            "positive",
        ).result

    @torch.inference_mode()  # as ComfyUI runs nodes
    def scores(model, text):
        guider = CFGGuider.execute(model, faces.prompts([text]), negative, CFG).result[0]
        out = SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent).result[0]
        return faces.scores(faces.vae.decode(out["samples"]))

    came_back = scores(model, PLAIN)
    print(method, info, flush=True)
    smile = faces.judge.columns.index("smile")
    found = today.from_scores("smile")
    moved = {
        "the word smiling": scores(model, f"{PLAIN}, smiling"),
        "scores, strength 1": scores(faces.host.inject(model, found, [1.0]), PLAIN),
    }
    moved = {name: float((each - came_back).mean(0)[smile] / today.sd[smile]) for name, each in moved.items()}
    print(moved, flush=True)
    keep(f"{REAL}{method}", {"info": info, "smile moved": moved})
