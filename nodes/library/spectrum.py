"""Plot Spectrum: how much each direction of a finder matters."""

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ...directions import DirectionSet
from ..ui import CATEGORY, HSpaceDirections, csv_table, spectrum_plot


class HSpacePlotSpectrum(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpacePlotSpectrum",
            display_name="Plot Spectrum",
            category=CATEGORY,
            description="Shows how much each direction of a finder matters: explained variance over the timesteps "
            "(PCA), or singular values (Jacobian). Where the curves run flat there is little left to find.",
            search_aliases=["explained variance", "singular values", "scree plot", "how many components"],
            inputs=[
                HSpaceDirections.Input("directions", tooltip="From a finder: PCA or Jacobian."),
                io.Int.Input("most", default=7, min=1, max=49, tooltip="Most curves drawn, strongest first. 3 to 10."),
            ],
            outputs=[
                io.Image.Output(display_name="plot", tooltip="A curve for each direction, or for each timestep."),
                io.String.Output(display_name="csv", tooltip="All numbers as text with commas, for a spreadsheet."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, directions, most):
        curves, over_timesteps = curves_of(directions)
        plot = spectrum_plot(
            dict(list(curves.items())[:most]),
            title=directions.spectrum_name,
            x_label="timestep" if over_timesteps else "number",
            falling=over_timesteps,
        )
        x_name = "timestep" if over_timesteps else "number"
        rows = [(name, *point) for name, (x, y) in curves.items() for point in zip(x.tolist(), y.tolist(), strict=True)]
        return io.NodeOutput(
            plot, csv_table(["curve", x_name, directions.spectrum_name], rows), ui=ui.PreviewImage(plot, cls=cls)
        )


def curves_of(directions: DirectionSet) -> tuple[dict[str, tuple[Tensor, Tensor]], bool]:
    """x and y by the curve's name, and whether x is the timestep: a curve for each direction then.

    Directions of one timestep each are put into a curve for each timestep, over their numbers.
    """
    timesteps, spectrum = directions[0].timesteps, directions.spectrum
    if spectrum.shape[1] > 1:
        named = zip(directions, spectrum, strict=True)
        return {f"{i}: {each.name}": (timesteps, values) for i, (each, values) in enumerate(named, 1)}, True
    groups: dict[str, list[float]] = {}
    for each, value in zip(directions, spectrum[:, 0].tolist(), strict=True):
        groups.setdefault(f"timestep {each.timesteps[0]:.0f}", []).append(value)
    return {name: (torch.arange(1, len(y) + 1), torch.tensor(y)) for name, y in groups.items()}, False


NODES = [HSpacePlotSpectrum]
