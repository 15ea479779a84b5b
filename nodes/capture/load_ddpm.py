"""Load DDPM: the papers' kind of model, or the pack's own, as a MODEL."""

import comfy.model_management
import comfy.sd
import torch
from comfy_api.latest import io

from ..host import DEMO_MODEL, find_files, load_ddpm, model_folder, model_folders
from ..ui import CATEGORY


class HSpaceLoadDDPM(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceLoadDDPM",
            display_name="Load DDPM",
            category=CATEGORY,
            description="Loads an unconditional pixel diffusion model in diffusers format, such as "
            "google/ddpm-ema-celebahq-256, from models/diffusers, or the demo faces that come with this pack. Sample "
            "it at cfg 1.",
            search_aliases=["pixel diffusion", "diffusers", "unconditional", "celebahq", "demo faces", "load model"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=list(model_folders()),
                    default=DEMO_MODEL,
                    tooltip="A folder in models/diffusers with config.json, scheduler_config.json and a safetensors "
                    "file. The demo faces (64x64) need no download.",
                )
            ],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="For SamplerCustom, at cfg 1, and the other h-space nodes."
                ),
                io.Vae.Output(display_name="vae", tooltip="For VAE Decode. The latents are pixels already."),
                io.Conditioning.Output(display_name="conditioning", tooltip="Empty. For both positive and negative."),
                io.Latent.Output(
                    display_name="latent", tooltip="One empty image of the size the model was trained on."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, model: str) -> str:
        return find_files(model_folder(model)).fingerprint()

    @classmethod
    def execute(cls, model: str) -> io.NodeOutput:
        patcher = load_ddpm(model_folder(model))
        vae = comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
        conditioning = [[torch.zeros(1, 1, 1), {}]]
        pixels = torch.zeros(1, 3, *patcher.model.image_size, device=comfy.model_management.intermediate_device())
        return io.NodeOutput(patcher, vae, conditioning, {"samples": pixels, "downscale_ratio_spacial": 1})


NODES = [HSpaceLoadDDPM]
