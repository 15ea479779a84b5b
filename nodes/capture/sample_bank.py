"""Sample Bank: record h while many seeds are sampled."""

from comfy_api.latest import io

from ..host import chosen_sites, folder_of, record_banks, seed_range
from ..ui import (
    BATCH_SIZE,
    BRANCH,
    CATEGORY,
    CFG,
    EMPTY_LATENT,
    MODEL,
    SITES,
    HSpaceBank,
    first_seed_input,
    parse_names,
)

SHOWN = 64
"""Pictures to look at; a bank may hold more than memory does."""


class HSpaceSampleBank(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceSampleBank",
            display_name="Sample Bank",
            category=CATEGORY,
            description="Samples many seeds and records the model's inside on the way: the bank in which "
            "directions are found. It is kept on disk, continues where it was interrupted, and is not sampled again "
            "for the same settings. Picture i is the one SamplerCustom makes with seed first_seed + i.",
            search_aliases=["capture", "record h-space", "collect samples", "dataset", "bank"],
            inputs=[
                MODEL,
                io.Conditioning.Input("positive", tooltip="What all pictures of the bank show."),
                io.Conditioning.Input("negative", tooltip="Its opposite. Not used at cfg 1."),
                io.Sampler.Input("sampler", tooltip="Any sampler. euler_ancestral is the paper's choice."),
                io.Sigmas.Input("sigmas", tooltip="The schedule. 10 to 25 steps are enough to find directions."),
                EMPTY_LATENT,
                io.String.Input("name", default="bank", tooltip="Folder of the bank in models/hspace_banks."),
                io.Int.Input(
                    "count", default=200, min=0, max=100000, tooltip="How many pictures. 100 to 500 are usual."
                ),
                first_seed_input("picture"),
                BATCH_SIZE,
                CFG,
                BRANCH,
                SITES,
                io.Int.Input(
                    "grid",
                    default=16,
                    min=0,
                    max=256,
                    optional=True,
                    advanced=True,
                    tooltip="Longer side of the decoder's maps as they are kept: larger ones are pooled. 16 saves "
                    "disk; 0 keeps them whole, for directions of small things in the picture.",
                ),
            ],
            outputs=[
                HSpaceBank.Output(display_name="bank", tooltip="To Find Directions (PCA)."),
                io.Latent.Output(display_name="latent", tooltip=f"The finished pictures, by seed, at most {SHOWN}."),
                io.String.Output(display_name="folder", tooltip="Where in models/hspace_banks the bank is."),
            ],
        )

    @classmethod
    def execute(
        cls, model, positive, negative, sampler, sigmas, latent, name, count, first_seed, batch_size, cfg, branch,
        sites="auto", grid=16,
    ):  # fmt: skip
        if count < 1:
            raise ValueError(f"A bank needs pictures: got count {count}, wanted 1 or more. Raise count.")
        settings = dict(positive=positive, negative=negative, cfg=cfg, sampler=sampler, sigmas=sigmas)
        (bank,) = record_banks(
            model, {name: settings}, latent=latent, seeds=seed_range(first_seed, count), batch_size=batch_size,
            branch=branch, sites=chosen_sites(model, parse_names(sites)), grid=grid or None,
        )  # fmt: skip
        return io.NodeOutput(bank, {"samples": bank.latents(last=SHOWN)}, folder_of(bank))


NODES = [HSpaceSampleBank]
