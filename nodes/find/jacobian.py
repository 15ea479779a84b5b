"""Find directions of one image: the Jacobian of what the model predicts there."""

import json

from comfy_api.latest import io, ui

from ..host import (
    JacobianSearch,
    chosen_site,
    digest,
    pooled,
    require_bottleneck,
    sample,
    sampling_recipe,
    single_latent,
    source_of,
    steps_at,
    visit_at_sigmas,
)
from ..ui import (
    BRANCH,
    CATEGORY,
    CFG,
    NEGATIVE,
    POSITIVE,
    SITE,
    UNET,
    HSpaceDirections,
    parse_names,
    parse_percents,
    seed_input,
)


class HSpaceFindJacobian(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceFindJacobian",
            display_name="Find Directions (Jacobian)",
            category=CATEGORY,
            description="Finds what can change most in this one picture: the directions to which the model's "
            "prediction is most sensitive, at one timestep or several, in the whole picture or behind a mask. Needs no "
            "bank and no examples (Haas et al. 2024).",
            search_aliases=["singular vectors", "image-specific", "local edit", "mask", "unsupervised", "discover"],
            inputs=[
                UNET,
                POSITIVE,
                NEGATIVE,
                io.Sampler.Input("sampler", tooltip="As for the sampler: the picture is the one SamplerCustom makes."),
                io.Sigmas.Input("sigmas", tooltip="As for the sampler."),
                io.Latent.Input("latent", tooltip="One latent: empty, or a picture to start from."),
                seed_input("The picture's seed, as SamplerCustom's noise_seed."),
                io.String.Input(
                    "percents",
                    default="0.4",
                    tooltip="Where in the sampling to look, one or several with commas between: 0 is pure noise (big "
                    "changes), 1 the finished picture (small ones). 0.2 to 0.8. Each takes the nearest step.",
                ),
                io.Int.Input(
                    "count", default=3, min=1, max=100, tooltip="Directions for each percent, strongest first. 3 to 10."
                ),
                CFG,
                io.Int.Input(
                    "protect_outside",
                    default=10,
                    min=0,
                    max=100,
                    advanced=True,
                    tooltip="With a mask: keep clear of this many directions that change the rest of the picture most. "
                    "More is more local, and weaker and slower. 0 (off) to 20; without a mask it has no effect.",
                ),
                BRANCH,
                io.Mask.Input("mask", optional=True, tooltip="Look only for what changes the white part."),
                SITE,
            ],
            outputs=[
                HSpaceDirections.Output(
                    display_name="directions", tooltip="To Sweep Directions, or Pick Direction: percent by percent."
                ),
                io.Latent.Output(display_name="latent", tooltip="The picture itself."),
                io.String.Output(display_name="info", tooltip="Singular values, and how exact they are."),
            ],
        )

    @classmethod
    def execute(
        cls, model, positive, negative, sampler, sigmas, latent, seed, percents, count, cfg, protect_outside, branch,
        mask=None, sites="auto",
    ):  # fmt: skip
        require_bottleneck(model, "Find Direction (Jacobian)")
        latent, site = single_latent(model, latent), chosen_site(model, parse_names(sites))
        run = dict(positive=positive, negative=negative, cfg=cfg, sampler=sampler, sigmas=sigmas)
        wanted = steps_at(model, sigmas, parse_percents(percents))
        where = pooled(mask, latent["samples"].shape[-2:])
        search = JacobianSearch(model, site, len(wanted), count, protect_outside, where, seed)
        visited = visit_at_sigmas(model, search, wanted, branch, site)
        picture = sample(visited, **run, latent=latent, seeds=[seed], on_step=lambda x0: None)
        recipe = {
            "find": "Jacobian",
            "picture": json.loads(sampling_recipe(model, **run, latent=latent, branch=branch, sites=(site,))),
            "seed": seed,
            "mask": None if mask is None else digest(mask),
            "protect_outside": protect_outside,
        }
        directions = search.directions(picture, sigmas, source_of(model, latent, branch), recipe)
        info = search.info()
        return io.NodeOutput(directions, {"samples": picture}, info, ui=ui.PreviewText(info))


NODES = [HSpaceFindJacobian]
