"""The demo faces that listen to words, as the tests and the benchmarks use them."""

from types import ModuleType

import torch
from demo_faces import node_classes
from torch import Tensor

SENTENCE = "portrait of a smiling old man with glasses"


class PromptedFaces:
    """`kind` is a part of its name in the loader's list."""

    def __init__(self, pack: ModuleType, kind: str = "Stable Diffusion"):
        self.loader, self.kind = node_classes(pack).HSpaceLoadDemoFaces, kind
        self.model, self.clip, self.vae = self.load()
        self.latent = {"samples": torch.zeros(1, 4, 32, 32)}

    def load(self) -> tuple:
        """MODEL, CLIP and VAE, fresh."""
        (name,) = [name for name in self.loader.define_schema().inputs[0].options if self.kind in name]
        return self.loader.execute(name).result

    def encode(self, text: str) -> list:
        """What core's CLIP Text Encode makes of `text`."""
        import nodes

        return nodes.CLIPTextEncode().encode(self.clip, text)[0]

    @torch.no_grad()
    def draw(
        self,
        text: str,
        *,
        negative: str = "",
        seed: int = 0,
        count: int = 1,
        steps: int = 4,
        cfg: float = 3.0,
        sampler: str = "euler",
        scheduler: str = "normal",
        size: int = 64,
    ) -> Tensor:
        """Pictures `(count, size, size, 3)` in 0..1, by core's own nodes."""
        import nodes

        latent = nodes.EmptyLatentImage().generate(size, size, count)[0]
        prompts = self.encode(text), self.encode(negative)
        (latent,) = nodes.KSampler().sample(self.model, seed, steps, cfg, sampler, scheduler, *prompts, latent)
        return nodes.VAEDecode().decode(self.vae, latent)[0]
