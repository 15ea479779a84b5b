"""Find a direction from two prompts."""

from comfy_api.latest import io

from ...directions import find_from_examples
from ..host import finder_progress, record_banks, seed_range
from ..ui import BATCH_SIZE, BRANCH, CATEGORY, CFG, EMPTY_LATENT, answer, finder_outputs, first_seed_input


class HSpaceFindFromPrompts(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceFindFromPrompts",
            display_name="Find Direction (Prompts)",
            category=CATEGORY,
            description="Samples the same seeds under two prompts and takes what differs in the bottleneck. For "
            "text-to-image models. Both banks are kept on disk and continue where they were interrupted.",
            search_aliases=["prompt pair", "text direction", "contrast", "concept", "slider"],
            inputs=[
                io.Model.Input("model", tooltip="A text-to-image UNet: SD 1.x, SD 2.x, SDXL."),
                io.Conditioning.Input("positive", tooltip='A prompt with it, such as "photo of a smiling person".'),
                io.Conditioning.Input("opposite", tooltip='The same prompt without it: "photo of a serious person".'),
                io.Conditioning.Input("negative", tooltip="The negative prompt of both. Not used at cfg 1."),
                io.Sampler.Input("sampler", tooltip="Any sampler."),
                io.Sigmas.Input("sigmas", tooltip="The schedule. 10 to 25 steps are enough."),
                EMPTY_LATENT,
                io.String.Input("name", default="my direction", tooltip="Name of the direction and of its banks."),
                io.Int.Input("count", default=50, min=1, max=100000, tooltip="Seeds under each prompt. 20 to 200."),
                first_seed_input("picture"),
                BATCH_SIZE,
                CFG,
                BRANCH,
            ],
            outputs=finder_outputs(),
        )

    @classmethod
    def execute(
        cls, model, positive, opposite, negative, sampler, sigmas, latent, name, count, first_seed, batch_size, cfg,
        branch,
    ):  # fmt: skip
        name, shared = name.strip(), dict(negative=negative, cfg=cfg, sampler=sampler, sigmas=sigmas)
        prompts = {f"{name} with": positive, f"{name} without": opposite}
        banks = record_banks(
            model, {side: dict(positive=prompt, **shared) for side, prompt in prompts.items()}, latent=latent,
            seeds=seed_range(first_seed, count), batch_size=batch_size, branch=branch,
        )  # fmt: skip
        return answer(find_from_examples(*banks, paired=True, name=name, on_progress=finder_progress()))


NODES = [HSpaceFindFromPrompts]
