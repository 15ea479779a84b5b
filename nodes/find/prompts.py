"""Find a direction from two prompts."""

from comfy_api.latest import io

from ..host import chosen_sites, find_slider, seed_range
from ..ui import (
    ANY_SAMPLER,
    BATCH_SIZE,
    BRANCH,
    CATEGORY,
    CFG,
    EMPTY_LATENT,
    FEW_STEPS,
    NEGATIVE_OF_BOTH,
    PROMPTED_MODEL,
    SITES,
    WITH_IT,
    WITHOUT_IT,
    answer,
    finder_outputs,
    first_seed_input,
    parse_names,
)


class HSpaceFindFromPrompts(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceFindFromPrompts",
            display_name="Find Direction (Prompts)",
            category=CATEGORY,
            description="Samples the same seeds under two prompts and takes what differs in the UNet. For "
            "text-to-image models. Then it measures how far the direction goes, so that strength 1 is the way from one "
            "prompt to the other. What was sampled is kept and continues where it was interrupted.",
            search_aliases=["prompt pair", "text direction", "contrast", "concept", "slider"],
            inputs=[
                PROMPTED_MODEL,
                WITH_IT,
                WITHOUT_IT,
                NEGATIVE_OF_BOTH,
                ANY_SAMPLER,
                FEW_STEPS,
                EMPTY_LATENT,
                io.String.Input(
                    "name", default="my direction", tooltip="Name of the direction and of its file of sums."
                ),
                io.Int.Input("count", default=50, min=1, max=100000, tooltip="Seeds under each prompt. 20 to 200."),
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
        cls, model, positive, opposite, negative, sampler, sigmas, latent, name, count, first_seed, batch_size, cfg,
        branch, sites="auto",
    ):  # fmt: skip
        shared = dict(negative=negative, cfg=cfg, sampler=sampler, sigmas=sigmas, latent=latent)
        sides = {"with": dict(positive=positive, **shared), "without": dict(positive=opposite, **shared)}
        found, calibrated = find_slider(
            model, [sides], name=name.strip(), seeds=seed_range(first_seed, count), batch_size=batch_size,
            branch=branch, sites=chosen_sites(model, parse_names(sites)),
        )  # fmt: skip
        return answer(found, f" {calibrated.words()}.")


NODES = [HSpaceFindFromPrompts]
