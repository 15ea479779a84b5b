"""Find the principal components of a bank."""

from comfy_api.latest import io

from ...directions import find_components
from ..host import finder_progress
from ..ui import CATEGORY, HSpaceBank, HSpaceDirections


class HSpaceFindPCA(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceFindPCA",
            display_name="Find Directions (PCA)",
            category=CATEGORY,
            description="Finds the directions in which a bank varies most, with nobody telling it what to look for: "
            "often pose, age, hair, background. Exact principal components (Haas et al. 2024).",
            search_aliases=["pca", "principal components", "unsupervised", "discover", "semantic directions"],
            inputs=[
                HSpaceBank.Input("bank", tooltip="From Sample Bank. 100 pictures or more give steady directions."),
                io.Int.Input(
                    "components",
                    default=10,
                    min=1,
                    max=1000,
                    tooltip="How many directions, strongest first. 5 to 25; fewer than the bank has pictures.",
                ),
                io.Combo.Input(
                    "span",
                    options=["each timestep", "whole trajectory"],
                    default="each timestep",
                    tooltip="each timestep: components of every timestep, followed along the trajectory (the paper's "
                    "way). whole trajectory: one PCA over all timesteps at once.",
                ),
            ],
            outputs=[
                HSpaceDirections.Output(
                    display_name="directions",
                    tooltip="To Pick Direction. Strength 1 is one standard deviation of the bank.",
                )
            ],
        )

    @classmethod
    def execute(cls, bank, components, span):
        return io.NodeOutput(find_components(bank, components, span=span, on_progress=finder_progress()))


NODES = [HSpaceFindPCA]
