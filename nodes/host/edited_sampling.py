"""What a sampling call with edits has prepared so far."""

from collections.abc import Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import cached_property
from itertools import pairwise

from torch import Tensor

from .clock import Clock
from .edits import Injection, Layout, Substitution
from .moments import Ahead, Moment
from .prepared import Prepared, Schedule
from .substituted import Substituted


class Sampling:
    """What a sampling call has prepared so far, and the edits of the model that it patches the UNet with."""

    def __init__(self, clock: Clock, sigmas: Tensor, acting: frozenset[Injection | Substitution]):
        self.clock, self.sigmas, self.acting = clock, sigmas, acting
        self._prepared: dict[tuple[tuple[Injection, ...], str, Layout], Prepared] = {}
        self._substituted: dict[tuple[Substitution, str, Layout], Substituted] = {}
        self._moment: Moment | None = None
        self._ahead: list[Ahead] = []
        """Of what has no table on a card."""

    def prepared(self, injections: tuple[Injection, ...], site: str, at: Layout) -> Prepared:
        key = injections, site, at
        if key not in self._prepared:
            schedule = Schedule.of(self.clock, self.sigmas, injections)
            self._prepared[key] = Prepared.of(injections, at, site, schedule, self._following)
            self._note(self._prepared[key], at)
        return self._prepared[key]

    def substituted(self, edit: Substitution, site: str, at: Layout) -> Substituted:
        key = edit, site, at
        if key not in self._substituted:
            self._substituted[key] = Substituted.of(edit, at, self.clock, self._following)
            self._note(self._substituted[key], at)
        return self._substituted[key]

    def _note(self, made: Prepared | Substituted, at: Layout) -> None:
        if made.table is None and at.on_card:
            self._ahead.append(made.ahead)

    @cached_property
    def _following(self) -> Mapping[float, tuple[float, float]]:
        """By each sigma of the schedule the next, and its timestep."""
        sigmas = self.sigmas[:-1].float().cpu()
        timesteps = self.clock.timestep(sigmas).float().tolist()
        pairs = list(zip(sigmas.tolist(), timesteps, strict=True))
        return {sigma: following for (sigma, _), following in pairwise(pairs)}

    def moment(self, sigmas: Tensor, timesteps: Tensor) -> Moment:
        """One for all sites of a call."""
        if self._moment is None or self._moment.sigmas is not sigmas:
            self._moment = Moment(sigmas, timesteps)
        return self._moment

    @contextmanager
    def looking_ahead(self, sigmas: Tensor, timesteps: Tensor):
        """Around a call of the UNet."""
        moment = self._moment = Moment(sigmas, timesteps)
        if self._ahead:
            moment.ask()
        yield
        for each in self._ahead:
            each.look(moment.numbers[0])

    def require_recorded(self) -> None:
        """`ValueError` if recorded h was wanted at a timestep that has none: a card says so at the end."""
        for each in self._substituted.values():
            each.require_recorded()


SAMPLING: ContextVar[Sampling | None] = ContextVar("sampling", default=None)
"""That which runs just now, of an edited model."""


def look_ahead(executor, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
    """A wrapper of the UNet under which what has no room on a card is on its way there before its step comes."""
    sampling, sigmas = SAMPLING.get(), (transformer_options or {}).get("sigmas")
    with sampling.looking_ahead(sigmas, timesteps) if sampling else nullcontext():
        return executor(x, timesteps, context, y, control, transformer_options, **kwargs)


def look_ahead_in_blocks(
    executor, x, sigma, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs
):
    """The same around a call of a transformer."""
    sampling, sigmas = SAMPLING.get(), (transformer_options or {}).get("sigmas")
    with sampling.looking_ahead(sigmas, sampling.clock.timestep(sigmas).float()) if sampling else nullcontext():
        return executor(x, sigma, c_concat, c_crossattn, control, transformer_options, **kwargs)
