"""Scores: what a classifier, a text or a person says about the pictures of a bank."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from .bank import Bank


@dataclass(frozen=True, eq=False)
class Scores:
    """Named columns, one row for each scored picture of one bank; pictures without a score have no row."""

    columns: tuple[str, ...]
    values: Tensor
    """`(n, m)` float32, finite."""
    seeds: tuple[int, ...]
    """Whose picture each row is about."""
    bank_recipe: str
    """The recipe of the bank that was scored."""
    origin: str
    """Who said so, in words, such as "classifier demo attributes"."""

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.seeds), len(self.columns)) or not self.values.numel():
            raise ValueError(
                f"Scores need a row for each picture and a column for each name: got {tuple(self.values.shape)}, "
                f"wanted ({len(self.seeds)}, {len(self.columns)}), neither of them 0."
            )
        for what, entries in (("column", self.columns), ("seed", self.seeds)):
            twice = [entry for entry, times in Counter(entries).items() if times > 1]
            if twice:
                raise ValueError(f"The scores hold {what} {twice[0]!r} twice: remove one of them.")
        bad = (~torch.isfinite(self.values)).nonzero()
        if len(bad):
            row, column = bad[0].tolist()
            raise ValueError(
                f'Scores must be finite numbers: got {self.values[row, column]} in column "{self.columns[column]}" for '
                f"the picture of seed {self.seeds[row]}. Correct it or leave that picture out."
            )

    def __len__(self) -> int:
        return len(self.seeds)

    def column(self, name: str) -> Tensor:
        """The scores `(n,)` under this name."""
        if name not in self.columns:
            raise ValueError(f'There is no column "{name}": the scores hold {", ".join(self.columns)}. Choose one.')
        return self.values[:, self.columns.index(name)]

    def varied_column(self, name: str) -> Tensor:
        """The scores `(n,)` under this name. `ValueError` if all are the same, for then they tell nothing apart."""
        values = self.column(name)
        if values.min() == values.max():
            raise ValueError(
                f'Column "{name}" is {values[0]:g} for all {len(self)} pictures, wanted different scores: choose '
                "another column or sample a more varied bank."
            )
        return values

    def scored(self, bank: Bank) -> Bank:
        """The pictures of `bank` that have a score, in the order of the rows. `ValueError` for another bank."""
        if bank.recipe != self.bank_recipe:
            raise ValueError(
                "The scores are of another bank: its model, prompt, sampler or size differ. Connect the bank that was "
                "scored, or score this one."
            )
        return bank.select(self.seeds)

    def summary(self) -> str:
        """A line for each column: its lowest, mean and highest score."""
        return "\n".join(
            f"{name}: {values.min():.3g} to {values.max():.3g}, mean {values.mean():.3g}"
            for name, values in zip(self.columns, self.values.T, strict=True)
        )
