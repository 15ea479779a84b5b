"""Learn a direction under an objective: what its loss is, and how a delta follows the gradient."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

ADAM = ("step", "exp_avg", "exp_avg_sq")
"""What torch's Adam keeps for each parameter."""
SCALER = ("scale", "_growth_tracker")
"""What changes in torch's GradScaler."""
LOWEST_SCALE = 2.0**-4
"""Of the loss: reached after 20 overflows in a row, and at a gradient 16 times as large as float16 can hold."""


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
        self.scaler = torch.amp.GradScaler("cpu")  # where the rows are; a power of two, so float32 keeps every bit
        self.losses: list[float] = []

    def delta(self, row: int) -> Tensor:
        """`(c, h, w)`, with its graph."""
        delta: Tensor = self.rows[row] * self.scale[row]
        return delta

    def gradient(self, row: int, loss: Tensor) -> Tensor:
        """Of `loss` by a row, scaled so that half precision doesn't lose it. Those of a loss's parts can be added."""
        (gradient,) = torch.autograd.grad(self.scaler.scale(loss), self.rows[row])
        return gradient

    def step(self, row: int, gradient: Tensor, loss: float) -> None:
        """One step of one row down what `gradient` gave for a `loss`.

        A gradient that overflows is left out, and the next one scaled by half. `ValueError` where that doesn't help.
        """
        parameter = self.rows[row]
        parameter.grad = gradient
        self.scaler.step(self.adam)
        self.scaler.update()
        parameter.grad = None
        if not math.isfinite(loss) or self.scaler.get_scale() <= LOWEST_SCALE:
            raise ValueError(
                "The gradient of the objective is not finite: got NaN or infinity, however its loss is scaled. Load "
                "the model, the VAE, or what the objective looks with, in a higher precision."
            )

    def deltas(self) -> Tensor:
        """`(rows, c, h, w)`."""
        return torch.stack([self.delta(row).detach() for row in range(len(self.rows))])

    def state_dict(self) -> dict[str, Tensor]:
        """All that it takes to go on later, to the bit."""
        scaler = self.scaler.state_dict()
        state: dict[str, Tensor] = {
            "losses": torch.tensor(self.losses, dtype=torch.float64),
            "scaler": torch.tensor([scaler[key] for key in SCALER]),
        }
        for row, parameter in enumerate(self.rows):
            state[f"{row}"] = parameter.detach()
        for row, moments in self.adam.state_dict()["state"].items():
            state |= {f"{row} {name}": tensor for name, tensor in moments.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state`. `ValueError`, and nothing changed, if it is not that of a learner of this shape."""
        self._require_own(state)
        self.losses = state["losses"].tolist()
        scale, unskipped = state["scaler"].tolist()
        self.scaler.load_state_dict({**self.scaler.state_dict(), "scale": scale, "_growth_tracker": int(unskipped)})
        moments = {
            row: {key: state[f"{row} {key}"].clone() for key in ADAM}
            for row in range(len(self.rows))
            if f"{row} step" in state
        }
        self.adam.load_state_dict({**self.adam.state_dict(), "state": moments})
        with torch.no_grad():
            for row, parameter in enumerate(self.rows):
                parameter.copy_(state[f"{row}"])

    def _require_own(self, state: Mapping[str, Tensor]) -> None:
        shape = self.rows[0].shape
        wanted = {"scaler": torch.Size([2])}
        for row in map(str, range(len(self.rows))):
            moments = {f"{row} {key}": torch.Size() if key == "step" else shape for key in ADAM}
            wanted |= {row: shape} | (moments if moments.keys() & state.keys() else {})
        got = {name: tensor.shape for name, tensor in state.items() if name != "losses"}
        if got != wanted or state["losses"].ndim != 1:
            wrong = sorted(name for name in got.keys() | wanted.keys() if got.get(name) != wanted.get(name))
            raise ValueError(f"got other numbers than a learner of shape {tuple(shape)} has: {wrong[:3]}")
        if not all(tensor.is_floating_point() and torch.isfinite(tensor).all() for tensor in state.values()):
            raise ValueError("got NaN, infinity or whole numbers, wanted finite ones")
        if any((tensor < 0).any() for name, tensor in state.items() if name.endswith(("step", "exp_avg_sq", "scaler"))):
            raise ValueError("got negative squares, steps or scales, which Adam never has")
        if state["scaler"][1] > self.scaler.get_growth_interval():
            raise ValueError(f"got {state['scaler'][1]:g} steps at one scale, after which it had risen")
