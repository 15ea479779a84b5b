"""Learn a direction under an objective: Kwon et al.'s way, without backpropagation through the sampler."""

import json

import torch
from comfy.model_management import load_models_gpu
from comfy_api.latest import io, ui
from torch import Tensor

from ...directions import Direction, write_whole
from ..host import (
    CONSTANT,
    EACH_TIMESTEP,
    Trainer,
    bank_folder,
    chosen_site,
    read_checkpoint,
    require_bottleneck,
    sampling_recipe,
    seed_range,
    single_latent,
    source_of,
    start_learner,
    weights_fingerprint,
)
from ..ui import (
    BATCH_SIZE,
    BRANCH,
    CATEGORY,
    CFG,
    EMPTY_LATENT,
    NEGATIVE,
    SITE,
    UNET,
    HSpaceDirection,
    HSpaceObjective,
    below,
    first_seed_input,
    grid,
    loss_curve,
    parse_names,
    to_pil,
)

SHOWN = 6
"""Pictures on the sheets."""


class HSpaceLearnDirection(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceLearnDirection",
            display_name="Learn Direction",
            category=CATEGORY,
            description="Learns the direction that an objective asks for, such as a classifier's score or a text: no "
            "examples are needed. Learning is kept on disk after every round, and goes on from there.",
            search_aliases=["asyrp", "train", "optimise", "clip", "text direction", "slider", "kwon"],
            inputs=[
                UNET,
                io.Conditioning.Input("positive", tooltip="What all pictures show. The direction changes it."),
                NEGATIVE,
                io.Sampler.Input("sampler", tooltip="Any sampler; the direction fits the others too."),
                io.Sigmas.Input("sigmas", tooltip="The schedule. 10 to 25 steps."),
                EMPTY_LATENT,
                io.Vae.Input(
                    "vae",
                    tooltip="Shows the objective what is predicted. A small one (taesd) saves memory.",
                ),
                HSpaceObjective.Input("objective", tooltip="From Set Objective."),
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
                    tooltip="How far a step moves each number of the direction, in standard deviations of "
                    "what is there. 0.002 (steady) to 0.02 (fast).",
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
                SITE,
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
        cls, model, positive, negative, sampler, sigmas, latent, vae, objective, name, span, count, first_seed, rounds,
        rate, keep, batch_size, cfg, branch, sites="auto",
    ):  # fmt: skip
        require_bottleneck(model, "Learn Direction")
        latent, name, site = single_latent(model, latent), name.strip(), chosen_site(model, parse_names(sites))
        run = dict(positive=positive, negative=negative, cfg=cfg, sampler=sampler, sigmas=sigmas, latent=latent)
        how = dict(span=span, count=count, first_seed=first_seed, rate=rate, keep=keep, batch_size=batch_size)
        made = json.loads(sampling_recipe(model, **run, branch=branch, sites=(site,)))
        recipe = {"learn": objective.recipe, **how, "vae": weights_fingerprint(vae.patcher), **made}
        file = bank_folder(name, json.dumps(recipe, sort_keys=True)) / "learning.safetensors"
        state = read_checkpoint(file, rounds)
        load_models_gpu([model, vae.patcher, objective.patcher])  # before sampling, which would have to wait for them
        trainer = Trainer(model, run, vae, objective, seed_range(first_seed, count), batch_size, branch, rounds, site)
        baseline = trainer.measure_baseline()
        learner = start_learner(baseline.shape, baseline.scale_over(span), rate, state, file)
        for number in range(len(learner.losses), rounds):
            latents = trainer.train_round(learner, baseline, number, keep)
            write_whole(learner.state_dict(), file, {"recipe": json.dumps(recipe)})
            pictures = before_and_after(vae, *latents, title=objective.name)
            trainer.progress.show(to_pil(below(pictures, loss_curve(learner.losses))))
        direction = Direction(
            deltas={site: learner.deltas()}, timesteps=baseline.timesteps[: len(learner.rows)], name=name,
            method="learnt", unit=objective.unit, source=source_of(model, latent, branch),
            recipe=json.dumps({**recipe, "rounds": rounds}),
        )  # fmt: skip
        shown = before_and_after(vae, baseline.predictions[-1], trainer.edited(direction, SHOWN), title=objective.name)
        first, last = learner.losses[0], learner.losses[-1]
        info = f"{objective.name}: loss {first:.3g} at first, {last:.3g} after {rounds} rounds"
        return io.NodeOutput(direction, loss_curve(learner.losses), shown, info, ui=ui.PreviewImage(shown, cls=cls))


def before_and_after(vae, *latents: Tensor, title: str) -> Tensor:
    """A sheet of the first pictures without the direction and with it."""
    pictures = torch.stack([vae.decode(side[:SHOWN].clone()) for side in latents])
    columns = [""] * pictures.shape[1]
    return grid(pictures, title=title, row_labels=["without", "strength 1"], column_labels=columns)


NODES = [HSpaceLearnDirection]
