"""Learn a direction from words: no bank, no classifier, no pictures."""

import json
from functools import cache, partial

from comfy.model_management import load_models_gpu
from comfy_api.latest import io, ui

from ...directions import write_whole
from ..host import (
    SliderTrainer,
    bank_folder,
    chosen_sites,
    conditioning,
    read_checkpoint,
    require_differentiable,
    sampling_recipe,
    single_latent,
    source_of,
)
from ..ui import (
    ANY_SAMPLER,
    CATEGORY,
    CFG,
    EMPTY_LATENT,
    FEW_STEPS,
    NAME,
    NEGATIVE_OF_ALL,
    PROMPTED_MODEL,
    SCENES,
    SITES,
    TEXT_ENCODER,
    HSpaceDirection,
    first_seed_input,
    lesson_prompts,
    loss_curve,
    parse_names,
    parse_scenes,
    to_pil,
)


class HSpaceLearnFromWords(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceLearnFromWords",
            display_name="Learn Direction (Words)",
            category=CATEGORY,
            description="Learns a direction that does to each step of a sampling what a word in the prompt does. It is "
            "solved for by least squares, so there is no learning rate. Learning is kept on disk after every round, "
            "and goes on from there.",
            search_aliases=["concept slider", "train", "type a slider", "lora slider", "text direction", "optimise"],
            inputs=[
                PROMPTED_MODEL,
                TEXT_ENCODER,
                ANY_SAMPLER,
                FEW_STEPS,
                EMPTY_LATENT,
                SCENES,
                io.String.Input(
                    "keep",
                    multiline=True,
                    default="",
                    tooltip="What is to stay, in the same way, a line for each, such as {glasses|no glasses}: what the "
                    "direction brings along of it is taken back. Leave it out of scenes; batch_size has to be even. "
                    "Empty keeps nothing in particular.",
                ),
                NEGATIVE_OF_ALL,
                NAME,
                io.Int.Input(
                    "rounds",
                    default=3,
                    min=1,
                    max=100000,
                    tooltip="How often batch_size pictures are sampled and learnt from. 2 to 10; raising it goes on "
                    "from where it was.",
                ),
                first_seed_input("picture"),
                io.Int.Input(
                    "batch_size",
                    default=8,
                    min=1,
                    max=4096,
                    tooltip="Pictures of a round, by turns towards the word and its opposite. More are steadier and "
                    "take longer and more memory. 4 to 16.",
                ),
                CFG,
                SITES,
            ],
            outputs=[
                HSpaceDirection.Output(
                    display_name="direction", tooltip="To Inject, Sweep, Orthogonalise or Save Direction."
                ),
                io.Image.Output(display_name="plot", tooltip="How the loss fell: 1 nothing learnt, 0 the words' own."),
                io.String.Output(display_name="info", tooltip="The loss, and how far the direction goes."),
            ],
        )

    @classmethod
    def execute(
        cls, model, clip, sampler, sigmas, latent, scenes, keep, negative, name, rounds, first_seed, batch_size,
        cfg, sites="auto",
    ):  # fmt: skip
        require_differentiable(model, "Learning from words")
        name, latent, sites = name.strip(), single_latent(model, latent), chosen_sites(model, parse_names(sites))
        told = parse_scenes(scenes), parse_scenes(keep) if keep.strip() else []
        if told[1] and batch_size % 2:
            raise ValueError(
                f"Keeping something compares the pictures of a pair: got a batch_size of {batch_size}, wanted an even "
                "number."
            )
        encoded = cache(partial(conditioning, clip))

        def prompts_of(number: int):
            prompts = lesson_prompts(*told, number)
            return [encoded(text) for text in (prompts.neutral, prompts.having, prompts.lacking, *prompts.kept)]

        run = dict(sampler=sampler, sigmas=sigmas, latent=latent)
        given = dict(positive=prompts_of(0)[0], negative=encoded(negative), cfg=cfg, **run, branch="positive")
        recipe = {
            "learn from words": [scenes, keep, negative],
            **dict(first_seed=first_seed, batch_size=batch_size),
            **json.loads(sampling_recipe(model, **given, sites=sites)),
        }
        file = bank_folder(name, json.dumps(recipe, sort_keys=True)) / "learning.safetensors"
        state = read_checkpoint(file, rounds)
        load_models_gpu([model])
        trainer = SliderTrainer(model, prompts_of, encoded(negative), run, cfg, first_seed, batch_size, rounds, sites)
        learnt = trainer.started(state, file)
        while len(learnt.losses) < rounds:
            trainer.train_round(learnt)
            write_whole(learnt.state_dict(), file, {"recipe": json.dumps(recipe)})
            trainer.progress.show(to_pil(loss_curve(learnt.losses)))
        direction = trainer.direction(
            learnt, name=name, unit="from the prompt without the word to the one with it",
            source=source_of(model, latent, "positive"), recipe=json.dumps({**recipe, "rounds": rounds}),
        )  # fmt: skip
        measured, plot = trainer.calibrated(direction), loss_curve(learnt.losses)
        info = f"loss {learnt.losses[-1]:.2f} in round {rounds} (1: nothing learnt). {measured.words()}."
        return io.NodeOutput(measured.applied(direction), plot, info, ui=ui.PreviewImage(plot, cls=cls))


NODES = [HSpaceLearnFromWords]
