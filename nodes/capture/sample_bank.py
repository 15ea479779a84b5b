"""Sample Bank: record h while many seeds are sampled."""

from comfy_api.latest import io

from ..host import record_banks, seed_range
from ..ui import BATCH_SIZE, BRANCH, CATEGORY, CFG, EMPTY_LATENT, UNET, HSpaceBank, first_seed_input

SHOWN = 64
"""Pictures to look at; a bank may hold more than memory does."""


class HSpaceSampleBank(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceSampleBank",
            display_name="Sample Bank",
            category=CATEGORY,
            description="Samples many seeds and records the UNet's bottleneck on the way: the bank in which "
            "directions are found. It is kept on disk, continues where it was interrupted, and is not sampled again "
            "for the same settings. Picture i is the one SamplerCustom makes with seed first_seed + i.",
            search_aliases=["capture", "record h-space", "collect samples", "dataset", "bank"],
            inputs=[
                UNET,
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
            ],
            outputs=[
                HSpaceBank.Output(display_name="bank", tooltip="To Find Directions (PCA)."),
                io.Latent.Output(display_name="latent", tooltip=f"The finished pictures, by seed, at most {SHOWN}."),
            ],
        )

    @classmethod
    def execute(
        cls, model, positive, negative, sampler, sigmas, latent, name, count, first_seed, batch_size, cfg, branch
    ):
        if count < 1:
            raise ValueError(f"A bank needs pictures: got count {count}, wanted 1 or more. Raise count.")
        settings = dict(positive=positive, negative=negative, cfg=cfg, sampler=sampler, sigmas=sigmas)
        (bank,) = record_banks(
            model, {name: settings}, latent=latent, seeds=seed_range(first_seed, count), batch_size=batch_size,
            branch=branch,
        )  # fmt: skip
        return io.NodeOutput(bank, {"samples": bank.latents(last=SHOWN)})


NODES = [HSpaceSampleBank]
