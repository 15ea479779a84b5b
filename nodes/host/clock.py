"""Model time, by which directions and banks know a step: 999 is pure noise, 0 the picture.

For models that predict noise or v it is their own timestep. For flow models it is sigma, times a thousand: whatever
shifts their schedule (ModelSamplingFlux, ModelSamplingSD3) moves the steps, not the time.
"""

from collections.abc import Callable
from typing import Protocol

from comfy.model_sampling import CONST
from scipy.optimize import brentq
from torch import Tensor

from ...directions import percent

FLOW = 1000


class Clock(Protocol):
    """ComfyUI's model_sampling is one for all but flow models."""

    def timestep(self, sigma: Tensor) -> Tensor: ...

    def sigma(self, timestep: Tensor) -> Tensor: ...


class _FlowTime:
    @staticmethod
    def timestep(sigma: Tensor) -> Tensor:
        return sigma * FLOW

    @staticmethod
    def sigma(timestep: Tensor) -> Tensor:
        return timestep / FLOW


def clock_of(model_sampling) -> Clock:
    """Of a model by its `model_sampling`."""
    return _FlowTime() if isinstance(model_sampling, CONST) else model_sampling


def percent_of(model_sampling) -> Callable[[float], float]:
    """How much of a sampling is done at a timestep, as ComfyUI counts it: 0 pure noise, 1 the picture.

    In flow models that depends on the shift; start_percent and end_percent are counted so.
    """
    if not isinstance(model_sampling, CONST):
        return percent
    return lambda timestep: brentq(lambda done: model_sampling.percent_to_sigma(done) - timestep / FLOW, 0, 1)
