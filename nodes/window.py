"""Choose when Asyrp's edit ends and its boosting begins, as Kwon et al. do by LPIPS."""

import comfy.samplers
import torch
from comfy.model_management import load_models_gpu
from comfy_api.latest import io, ui
from torch import Tensor

from ..directions import percent_before, timestep_of, unfinished
from ..directions import settled as settled_at
from .decode import decoded_with_gradient
from .inputs import BRANCH, CFG, first_seed_input
from .judge import Judge
from .lesson import Plain, Survey, watched
from .plots import line_plots
from .sampling import Progress, sample, seed_range, single_latent
from .types import CATEGORY, HSpaceJudge


class HSpaceChooseEditWindow(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceChooseEditWindow",
            display_name="Choose Edit Window",
            category=CATEGORY,
            description="Chooses edit_until and boost_from of Asyrp Sampler for this model: a judge sees when the "
            "predicted pictures stop changing, and when the noise in them no longer matters.",
            search_aliases=["t_edit", "t_boost", "asyrp", "lpips", "schedule"],
            inputs=[
                io.Model.Input("model", tooltip="As for the sampler."),
                io.Conditioning.Input("positive", tooltip="As for the sampler."),
                io.Conditioning.Input("negative", tooltip="As for the sampler. Not used at cfg 1."),
                io.Sigmas.Input("sigmas", tooltip="As for the sampler. 20 steps or more place the ends well."),
                io.Latent.Input("latent", tooltip="One empty latent: gives the size of the pictures."),
                io.Vae.Input("vae", tooltip="Shows the judge what is predicted."),
                HSpaceJudge.Input("judge", tooltip="What it looks at decides: one score, several, or CLIP."),
                io.Int.Input("count", default=16, min=2, max=1000, tooltip="Pictures looked at. 8 to 64."),
                first_seed_input("picture"),
                io.Float.Input(
                    "settled",
                    default=0.2,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    tooltip="The edit ends where predictions are this near to the finished pictures; 1 is how much two "
                    "pictures differ. 0.1 (longer) to 0.4 (shorter).",
                ),
                io.Float.Input(
                    "clean",
                    default=0.5,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    tooltip="Boosting begins where noisy pictures are this near to the finished ones. 0.3 to 0.7.",
                ),
                CFG,
                BRANCH,
            ],
            outputs=[
                io.Float.Output(display_name="edit_until", tooltip="To Asyrp Sampler."),
                io.Float.Output(display_name="boost_from", tooltip="To Asyrp Sampler."),
                io.Image.Output(display_name="plot", tooltip="Both distances over the timesteps."),
                io.String.Output(display_name="info", tooltip="The choice in words."),
            ],
        )

    @classmethod
    def execute(
        cls, model, positive, negative, sigmas, latent, vae, judge, count, first_seed, settled, clean, cfg, branch
    ):
        latent, survey = single_latent(model, latent), Survey(judge, vae)
        run = dict(positive=positive, negative=negative, cfg=cfg, sigmas=sigmas, latent=latent)
        load_models_gpu([model, vae.patcher, *judge.patchers])
        finished = sample(
            watched(model, sigmas, branch, survey, learning=False), **run, seeds=seed_range(first_seed, count),
            sampler=comfy.samplers.sampler_object("euler"), on_step=Progress(model, len(sigmas) - 1),
        )  # fmt: skip
        plain = Plain.joined([survey.plain()])
        seen = noisy(model, finished, sigmas[:-1], vae, judge)
        curves = {"predicted": unfinished(plain.seen, seen[-1]), "noisy": unfinished(seen[:-1], seen[-1])}
        ends = [
            percent_before(settled_at(curves[name], share), plain.timesteps)
            for name, share in (("predicted", settled), ("noisy", clean))
        ]
        plot = line_plots(
            plain.timesteps,
            curves,
            title=f"How far from finished ({judge.name})",
            x_label="timestep",
            marks={
                name: (timestep_of(end), share) for name, end, share in zip(curves, ends, (settled, clean), strict=True)
            },
        )
        info = f"edit_until {ends[0]:g}, boost_from {ends[1]:g}"
        return io.NodeOutput(*ends, plot, info, ui=ui.PreviewImage(plot, cls=cls))


def noisy(model, finished: Tensor, sigmas: Tensor, vae, judge: Judge) -> Tensor:
    """What the judge sees `(t + 1, n, m)` in finished latents with the noise of each sigma, and without."""
    sampling = model.get_model_object("model_sampling")
    draw = torch.Generator().manual_seed(0)
    clean = model.model.process_latent_in(finished)
    levels = [
        sampling.calculate_input(
            sigma[None], sampling.noise_scaling(sigma, torch.randn(clean.shape, generator=draw), clean.clone())
        )
        for sigma in sigmas.cpu()
    ]
    with torch.inference_mode(False), torch.no_grad():
        latents = [model.model.process_latent_out(level.clone()) for level in (*levels, clean)]
        return torch.stack([judge.look(decoded_with_gradient(vae, each)).cpu() for each in latents])


NODES = [HSpaceChooseEditWindow]
