"""Learn a direction from a judge: Kwon et al.'s way, without backpropagation through the sampler."""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from comfy.model_management import load_models_gpu
from comfy_api.latest import io, ui
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..directions import Direction, Learner, minibatch
from ..directions.files import write_whole
from . import unet
from .digest import weights_fingerprint
from .inputs import BATCH_SIZE, BRANCH, CFG, first_seed_input
from .judge import Judge
from .lesson import Lesson, Plain, Survey, watched
from .picture import grid
from .plots import loss_curve
from .record import bank_folder, recipe_of, source_of
from .sampling import Progress, sample, seed_range, single_latent
from .types import CATEGORY, HSpaceDirection, HSpaceJudge

CONSTANT, EACH_TIMESTEP = "constant", "each timestep"
SHOWN = 6


class HSpaceLearnDirection(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceLearnDirection",
            display_name="Learn Direction",
            category=CATEGORY,
            description="Learns the direction that a judge wants, such as a classifier's score or a text: no examples "
            "are needed. Learning is kept on disk after every round, and goes on from there.",
            search_aliases=["asyrp", "train", "optimise", "clip", "text direction", "slider", "kwon"],
            inputs=[
                io.Model.Input("model", tooltip="A UNet with a bottleneck: SD1.x, SD2.x, SDXL or a pixel DDPM."),
                io.Conditioning.Input("positive", tooltip="What all pictures show. The direction changes it."),
                io.Conditioning.Input("negative", tooltip="As for the sampler. Not used at cfg 1."),
                io.Sampler.Input("sampler", tooltip="Any sampler; the direction fits the others too."),
                io.Sigmas.Input("sigmas", tooltip="The schedule. 10 to 25 steps."),
                io.Latent.Input("latent", tooltip="One empty latent: gives the size of the pictures."),
                io.Vae.Input(
                    "vae",
                    tooltip="Shows the judge what is predicted. A small one (taesd) saves memory.",
                ),
                HSpaceJudge.Input("judge", tooltip="From Judge (Classifier) or Judge (Text)."),
                io.String.Input("name", default="learnt", tooltip='Name of the direction, such as "smile".'),
                io.Combo.Input(
                    "span",
                    options=[CONSTANT, EACH_TIMESTEP],
                    default=CONSTANT,
                    tooltip="constant: the same at every timestep. each timestep: another at each.",
                ),
                io.Int.Input("count", default=64, min=2, max=100000, tooltip="Pictures to learn from. 32 to 256."),
                first_seed_input("picture"),
                io.Int.Input(
                    "rounds",
                    default=40,
                    min=1,
                    max=100000,
                    tooltip="How often batch_size pictures are sampled and learnt from. 20 to 200; raising it goes on "
                    "from where it was.",
                ),
                io.Float.Input(
                    "rate",
                    default=0.005,
                    min=0.0001,
                    max=1.0,
                    step=0.001,
                    round=0.0001,
                    tooltip="How far a step moves each number of the direction, in standard deviations of the "
                    "bottleneck. 0.002 (steady) to 0.02 (fast).",
                ),
                io.Float.Input(
                    "keep",
                    default=1.0,
                    min=0.0,
                    max=1000.0,
                    step=0.1,
                    tooltip="How much pictures are to stay as they are otherwise (L1). 0 is off; 0.3 to 10.",
                ),
                BATCH_SIZE,
                CFG,
                BRANCH,
            ],
            outputs=[
                HSpaceDirection.Output(
                    display_name="direction",
                    tooltip="To Inject Direction, Sweep, Asyrp Sampler or Save Direction.",
                ),
                io.Image.Output(display_name="plot", tooltip="How the loss fell, round by round."),
                io.Image.Output(display_name="pictures", tooltip="Without the direction, and with it at strength 1."),
                io.String.Output(display_name="info", tooltip="The loss at the beginning and at the end."),
            ],
        )

    @classmethod
    def execute(
        cls, model, positive, negative, sampler, sigmas, latent, vae, judge, name, span, count, first_seed, rounds,
        rate, keep, batch_size, cfg, branch,
    ):  # fmt: skip
        latent, name = single_latent(model, latent), name.strip()
        run = dict(positive=positive, negative=negative, cfg=cfg, sampler=sampler, sigmas=sigmas, latent=latent)
        how = dict(span=span, count=count, first_seed=first_seed, rate=rate, keep=keep, batch_size=batch_size)
        made = json.loads(recipe_of(model, **run, branch=branch))
        recipe = {"learn": judge.recipe, **how, "vae": weights_fingerprint(vae.patcher), **made}
        file = bank_folder(name, json.dumps(recipe, sort_keys=True)) / "learning.safetensors"
        load_models_gpu([model, vae.patcher, *judge.patchers])  # before sampling, which would have to wait for them
        school = _School(model, run, vae, judge, seed_range(first_seed, count), batch_size, branch, rounds)
        plain = school.survey()
        learner = _begun(plain, span, rate, file, rounds)
        for number in range(len(learner.losses), rounds):
            school.teach(learner, plain, number, keep)
            write_whole(learner.state(), file, {"recipe": json.dumps(recipe)})
        direction = Direction(
            delta=learner.found(), timesteps=plain.timesteps[: len(learner.rows)], name=name, method="learnt",
            unit=judge.unit, source=source_of(model, latent, branch), recipe=json.dumps({**recipe, "rounds": rounds}),
        )  # fmt: skip
        info = f"{judge.name}: loss {learner.losses[0]:.3g} at first, {learner.losses[-1]:.3g} after {rounds} rounds"
        shown = school.before_and_after(plain, direction)
        return io.NodeOutput(direction, loss_curve(learner.losses), shown, info, ui=ui.PreviewText(info))


@dataclass(frozen=True, eq=False)
class _School:
    """What all rounds share."""

    model: object
    run: dict
    vae: object
    judge: Judge
    seeds: range
    batch_size: int
    branch: str
    rounds: int

    @cached_property
    def progress(self) -> Progress:
        batches = math.ceil(len(self.seeds) / self.batch_size)
        return Progress(self.model, (batches + self.rounds) * (len(self.run["sigmas"]) - 1))

    def survey(self) -> Plain:
        parts = []
        for first in range(0, len(self.seeds), self.batch_size):
            survey = Survey(self.judge, self.vae)
            self._sample(survey, self.seeds[first : first + self.batch_size], learning=False)
            parts.append(survey.plain())
        return _usable(Plain.joined(parts), len(self.run["sigmas"]) - 1, self.judge)

    def teach(self, learner: Learner, plain: Plain, number: int, keep: float) -> None:
        rows = minibatch(len(self.seeds), self.batch_size, number)
        lesson = Lesson(learner, self.judge, self.vae, plain, rows, keep)
        edited = self._sample(lesson, [self.seeds[row] for row in rows], learning=True)
        learner.losses.append(sum(lesson.losses) / len(lesson.losses))
        self._show(plain.predictions[-1][rows], edited, learner.losses)

    def _sample(self, visit, seeds, *, learning: bool) -> Tensor:
        model = watched(self.model, self.run["sigmas"], self.branch, visit, learning=learning)
        return sample(model, **self.run, seeds=seeds, on_step=self.progress)

    def _show(self, plain: Tensor, edited: Tensor, losses: list[float]) -> None:
        """Pictures without and with the delta and the loss so far, in the node while it runs."""
        pictures, curve = (
            Image.fromarray(image[0].mul(255).round().byte().numpy())
            for image in (self._sheet(plain, edited), loss_curve(losses))
        )
        sheet = Image.new("RGB", (max(pictures.width, curve.width), pictures.height + curve.height), "white")
        sheet.paste(pictures)
        sheet.paste(curve, (0, pictures.height))
        self.progress.show(sheet)

    def before_and_after(self, plain: Plain, direction: Direction) -> Tensor:
        edited = sample(
            unet.inject(self.model, direction, [1.0]), **self.run, seeds=self.seeds[:SHOWN], on_step=lambda x0: None
        )
        return self._sheet(plain.predictions[-1], edited)

    def _sheet(self, plain: Tensor, edited: Tensor) -> Tensor:
        pictures = torch.stack([self.vae.decode(latents[:SHOWN].clone()) for latents in (plain, edited)])
        columns = [""] * pictures.shape[1]
        return grid(pictures, title=self.judge.name, row_labels=["without", "strength 1"], column_labels=columns)


def _begun(plain: Plain, span: str, rate: float, file: Path, rounds: int) -> Learner:
    """The learner of an interrupted run, as far as it came; a new one where there is none, or one that went further."""
    scale = plain.scale if span == EACH_TIMESTEP else plain.scale.mean()[None]
    with torch.inference_mode(False):
        learner = Learner(plain.shape, scale, rate)
        if file.exists():
            try:
                state = load_file(file)
                if len(state["losses"]) <= rounds:
                    learner.restore(state)
            except (SafetensorError, KeyError, RuntimeError) as error:
                raise ValueError(
                    f"What was learnt before can't be read ({error}): delete {file.name} in {file.parent.name}."
                ) from error
    return learner


def _usable(plain: Plain, steps: int, judge: Judge) -> Plain:
    """`plain`. `ValueError` where the judge sees the same in all pictures, or the sampler left the schedule."""
    if len(plain.timesteps) != steps:
        raise ValueError(
            f"This sampler takes steps of its own: got {len(plain.timesteps)} of the schedule's {steps}. Use one that "
            "follows it, such as euler_ancestral."
        )
    if not (plain.seen[-1].std(0) > 0).all():
        raise ValueError(
            f"The judge ({judge.name}) sees the same in all {plain.seen.shape[1]} pictures: got one score for all, "
            "wanted different ones. Raise count, or use another judge."
        )
    return plain


NODES = [HSpaceLearnDirection]
