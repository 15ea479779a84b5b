"""Leakage: how far each edit changes what it should not, before and after it was made independent.

Haas et al. (FG 2024, arXiv 2303.11073), Table I: a row for each edit, a column for each score.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


def change(edited: Tensor, plain: Tensor) -> Tensor:
    """Mean change `(m,)` of scores `(n, m)` by an edit, in standard deviations of the unedited pictures' scores."""
    return (edited.double().mean(0) - plain.double().mean(0)) / plain.double().std(0)


@dataclass(frozen=True, eq=False)
class Leakage:
    """Changes `(repeats, k, k)` by each edit in each column; edit i is meant to change column i."""

    edits: tuple[str, ...]
    columns: tuple[str, ...]
    before: Tensor
    after: Tensor

    @property
    def tables(self) -> dict[str, Tensor]:
        """`(k, k)` by "before" and "after": means over the repeats."""
        return {side: changes.mean(0) for side, changes in self._sides()}

    @property
    def spreads(self) -> dict[str, Tensor] | None:
        """`(k, k)` by "before" and "after": standard deviations over the repeats. None for a single one."""
        return {side: changes.std(0) for side, changes in self._sides()} if len(self.before) > 1 else None

    def on_target(self) -> dict[str, float]:
        """Mean change of what the edits are meant to change."""
        return {side: table.diagonal().mean().item() for side, table in self.tables.items()}

    def off_target(self) -> dict[str, float]:
        """Mean absolute change of all the rest."""
        return {
            side: (table.abs().sum() - table.diagonal().abs().sum()).item() / max(1, table.numel() - len(table))
            for side, table in self.tables.items()
        }

    def clear_rows(self) -> dict[str, int]:
        """How many edits change their own column most."""
        own = torch.arange(len(self.edits))
        return {side: int((table.abs().argmax(1) == own).sum()) for side, table in self.tables.items()}

    def summary(self) -> str:
        """One line for a person."""
        on, off, clear = self.on_target(), self.off_target(), self.clear_rows()
        return (
            f"on target {on['before']:.2f} to {on['after']:.2f} ({_percent(on)}), off target {off['before']:.2f} to "
            f"{off['after']:.2f} ({_percent(off)}) standard deviations; an edit changes its own column most in "
            f"{clear['before']} of {len(self.edits)} rows before and {clear['after']} after."
        )

    def rows(self) -> list[list[object]]:
        """For a table: side, edit, column, mean, standard deviation over the repeats."""
        spreads = self.spreads
        return [
            [side, edit, column, table[i, j].item(), spreads[side][i, j].item() if spreads else ""]
            for side, table in self.tables.items()
            for i, edit in enumerate(self.edits)
            for j, column in enumerate(self.columns)
        ]

    def _sides(self) -> tuple[tuple[str, Tensor], tuple[str, Tensor]]:
        return ("before", self.before), ("after", self.after)


def _percent(sides: dict[str, float]) -> str:
    return f"{sides['after'] / sides['before'] - 1:+.0%}" if sides["before"] else "from nothing"
