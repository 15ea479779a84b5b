"""Learn a direction under an objective: what its loss is, and how a delta follows the gradient."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

ADAM = ("step", "exp_avg", "exp_avg_sq")
"""What torch's Adam keeps for each parameter."""


def score_shift_loss(edited: Tensor, plain: Tensor, spread: Tensor, end: Tensor) -> Tensor:
    """`(n,)`: how far pictures are from what an edit of strength 1 should do to their scores `(n, m)`.

    The first score is to rise by one standard deviation and the others are to stay. `spread (m,)` is that of unedited
    pictures as they are predicted at this step: early in the sampling they differ little yet, so little is asked.
    Squared errors are counted in `end`, the spread of the finished ones.
    """
    wanted = torch.zeros_like(end)
    wanted[0] = spread[0] / end[0]
    return ((edited - plain) / end - wanted).square().sum(1)


def clip_directional_loss(edited: Tensor, plain: Tensor, text: Tensor) -> Tensor:
    """`(n,)`: 1 - cos of how embeddings `(n, m)` of pictures moved with how `text (m,)` did (Kwon et al., Eq. 5)."""
    return 1 - cosine_similarity(edited - plain, text[None])


def minibatch(count: int, size: int, number: int) -> list[int]:
    """Which of `count` pictures take part in the `number`-th minibatch: each once before any comes again."""
    batches = math.ceil(count / size)
    epoch, place = divmod(number, batches)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(epoch))
    return order[place::batches].tolist()


class Learner:
    """A delta on its way, one for all steps or one for each. Lives while a direction is learnt.

    `scale (rows,)` is how much h varies there: Adam moves each number of the delta by about `rate` of it at a time.
    """

    def __init__(self, shape: tuple[int, ...], scale: Tensor, rate: float):
        self.scale = scale.tolist()
        start = torch.Generator().manual_seed(0)  # a cosine has no gradient at zero
        self.rows = [(0.1 * rate * torch.randn(shape, generator=start)).requires_grad_() for _ in self.scale]
        self.adam = torch.optim.Adam(self.rows, lr=rate, eps=1e-15)  # gradients of a large h are tiny
        self.losses: list[float] = []

    def delta(self, row: int) -> Tensor:
        """`(c, h, w)`, with its graph."""
        delta: Tensor = self.rows[row] * self.scale[row]
        return delta

    def step(self, row: int, loss: Tensor, loss_scale: float = 1.0) -> None:
        """One step of one row down the gradient of `loss`, which is scaled on its way through half precision."""
        (gradient,) = torch.autograd.grad(loss * loss_scale, self.rows[row])
        if not torch.isfinite(gradient).all():
            raise ValueError(
                "The gradient of the objective is not finite: got NaN or infinity. Load the model, or "
                "what the objective looks with, in a higher precision."
            )
        self.rows[row].grad = gradient / loss_scale
        self.adam.step()
        self.rows[row].grad = None

    def deltas(self) -> Tensor:
        """`(rows, c, h, w)`."""
        return torch.stack([self.delta(row).detach() for row in range(len(self.rows))])

    def state_dict(self) -> dict[str, Tensor]:
        """All that it takes to go on later, to the bit."""
        state: dict[str, Tensor] = {"losses": torch.tensor(self.losses, dtype=torch.float64)}
        for row, parameter in enumerate(self.rows):
            state[f"{row}"] = parameter.detach()
            state |= {f"{row} {name}": value for name, value in self.adam.state[parameter].items()}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state`. `ValueError`, and nothing changed, if it is not that of a learner of this shape."""
        rows = {f"{row}": parameter for row, parameter in enumerate(self.rows)}
        shapes = {name: parameter.shape for name, parameter in rows.items()}
        for name, parameter in rows.items():
            if any(f"{name} {key}" in state for key in ADAM):
                shapes |= {f"{name} {key}": torch.Size() if key == "step" else parameter.shape for key in ADAM}
        got = {name: tensor.shape for name, tensor in state.items() if name != "losses"}
        if got != shapes or state["losses"].ndim != 1:
            wrong = sorted(name for name in got.keys() | shapes.keys() if got.get(name) != shapes.get(name))
            raise ValueError(f"got other numbers than a learner of shape {tuple(self.rows[0].shape)} has: {wrong[:3]}")
        if not all(tensor.is_floating_point() and torch.isfinite(tensor).all() for tensor in state.values()):
            raise ValueError("got NaN, infinity or whole numbers, wanted finite ones")
        if any((tensor < 0).any() for name, tensor in state.items() if name.endswith(("step", "exp_avg_sq"))):
            raise ValueError("got negative squares or steps, which Adam never has")
        self.losses = state["losses"].tolist()
        for name, parameter in rows.items():
            with torch.no_grad():
                parameter.copy_(state[name])
            if f"{name} step" in state:
                self.adam.state[parameter] = {key: state[f"{name} {key}"].clone() for key in ADAM}
