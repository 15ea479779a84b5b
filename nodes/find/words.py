"""Find a direction from words, in one scene or in several."""

from comfy_api.latest import io

from ..host import chosen_sites, conditioning, find_slider, seed_range
from ..ui import (
    ANY_SAMPLER,
    BATCH_SIZE,
    BRANCH,
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
    answer,
    finder_outputs,
    first_seed_input,
    parse_names,
    parse_scenes,
)


class HSpaceFindFromWords(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceFindFromWords",
            display_name="Find Direction (Words)",
            category=CATEGORY,
            description="Find Direction (Prompts) with the prompts typed here, two words that differ in braces with a "
            "bar between. Each line is a scene of its own: what all scenes share is the direction, and what else "
            "changes in one of them is averaged away.",
            search_aliases=["type a slider", "prompt pair", "text direction", "concept", "slider", "words"],
            inputs=[
                PROMPTED_MODEL,
                TEXT_ENCODER,
                ANY_SAMPLER,
                FEW_STEPS,
                EMPTY_LATENT,
                SCENES,
                NEGATIVE_OF_ALL,
                NAME,
                io.Int.Input(
                    "count", default=50, min=1, max=100000, tooltip="Seeds, dealt out among the scenes. 20 to 200."
                ),
                first_seed_input("picture"),
                BATCH_SIZE,
                CFG,
                BRANCH,
                SITES,
            ],
            outputs=finder_outputs(),
        )

    @classmethod
    def execute(
        cls, model, clip, sampler, sigmas, latent, scenes, negative, name, count, first_seed, batch_size, cfg, branch,
        sites="auto",
    ):  # fmt: skip
        shared = dict(negative=conditioning(clip, negative), cfg=cfg, sampler=sampler, sigmas=sigmas, latent=latent)
        pairs = [
            {"with": dict(positive=conditioning(clip, scene.having), **shared)}
            | {"without": dict(positive=conditioning(clip, scene.lacking), **shared)}
            for scene in parse_scenes(scenes)
        ]
        found, calibrated = find_slider(
            model, pairs, name=name.strip(), seeds=seed_range(first_seed, count), batch_size=batch_size, branch=branch,
            sites=chosen_sites(model, parse_names(sites)),
        )  # fmt: skip
        return answer(found, f" {calibrated.words()}.")


NODES = [HSpaceFindFromWords]
