"""Make a direction independent of others."""

from comfy_api.latest import io, ui

from ...directions import cosines, orthogonalise
from ..ui import CATEGORY, SPAN, HSpaceDirection, connected, directions_input


class HSpaceOrthogonalise(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HSpaceOrthogonalise",
            display_name="Orthogonalise Direction",
            category=CATEGORY,
            description="Makes an edit independent of others: removes from a direction what it has in common with the "
            "protected ones, so that glasses don't make the face older (Haas et al. 2024, Eq. 12).",
            search_aliases=["disentangle", "project out", "independent", "orthogonalize", "gram-schmidt", "protect"],
            inputs=[
                HSpaceDirection.Input("direction", tooltip="The edit to clean."),
                directions_input("protected", "What it must not change. Any number; they may overlap.", fewest=1),
                SPAN,
                io.String.Input(
                    "name", default="", tooltip='Name of the result. Empty adds "independent" to the direction\'s.'
                ),
            ],
            outputs=[
                HSpaceDirection.Output(display_name="direction", tooltip="The cleaned edit, in the same unit."),
                io.String.Output(display_name="info", tooltip="How much of it is left, and what it leaned on."),
            ],
        )

    @classmethod
    def execute(cls, direction, protected, span, name):
        protected = connected(protected)
        cleaned = orthogonalise(direction, protected, span=span)
        kept, *shared = cosines([direction, cleaned, *protected])[0, 1:].tolist()
        leaned = ", ".join(f"{other.name} {cosine:+.2f}" for other, cosine in zip(protected, shared, strict=True))
        info = f'{kept:.0%} of "{direction.name}" is left. Cosine with the protected before: {leaned}.'
        cleaned = cleaned.renamed(name.strip() or f"{direction.name}, independent")
        return io.NodeOutput(cleaned, info, ui=ui.PreviewText(info))


NODES = [HSpaceOrthogonalise]
