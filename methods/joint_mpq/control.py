"""The search's schedule: strength of the cost by feedback, temperature by progress, and the steps of the logits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hdapbench.cost.bits import ChannelBitCounts
from hdapbench.method import ResumableRegularizer
from hdapbench.quant.training.searchable import SearchNetwork

REACHED_AT = 0.6
"""Share of the time until bit-widths are settled after which the soft cost is to be at its target."""

AIMED_BELOW = 0.97
"""The soft cost aims at this share of the target: what is left is given out channel by channel in the end."""

PROPORTIONAL, INTEGRAL = 3.0, 30.0
"""Gains of the controller, on the logarithmic gap between cost and wanted cost: the integral's is per whole search."""

START_STRENGTH = 1.0
LEAST_STRENGTH, MOST_STRENGTH = 0.01, 1e3


@dataclass
class SearchControl(ResumableRegularizer):
    """What happens beside the weights' own training at every step of a search.

    Attributes
    ----------
    cost
        Counts -> cost as a share of the dense model's at 8 bits.
    target
        Wanted share.
    settle
        Fixes the bit-width of every channel; called once, after ``n_steps``.
    n_steps
        Steps until then.
    last_temperature
        Temperature of the shares when bit-widths are settled; it falls geometrically.
    trace
        Soft cost and its weight or price, from look to look.
    """

    network: SearchNetwork
    cost: Callable[[ChannelBitCounts], Tensor]
    target: float
    settle: Callable[[], None]
    _: KW_ONLY
    n_steps: int
    last_temperature: float
    trace: list[tuple[float, float]] = field(default_factory=list)
    _step: int = 0
    _start: float | None = None

    def state(self) -> dict[str, Any]:
        """What `resume` goes on from; logits and temperatures are the network's."""
        return {"step": self._step, "start": self._start, "trace": [list(look) for look in self.trace]}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._step, self._start = state["step"], state["start"]
        self.trace[:] = [(cost, weight) for cost, weight in state["trace"]]
        if not self.unsettled:
            self.network.penalty = self.network.watch = None

    @property
    def unsettled(self) -> bool:
        """Whether bit-widths are not fixed yet."""
        return self._step < self.n_steps


@dataclass
class Controller(SearchControl):
    """Logits trained beside the weights, by a loss that the cost is part of.

    The wanted cost falls geometrically from where the search starts to the target, and stays there. The strength, the
    factor of the normalised cost in the loss, rises while the soft cost is above it and falls while it is below: a
    proportional and integral controller in place of a strength tuned by hand for each network, cost and target.

    Attributes
    ----------
    learning_rate
        Of the logits, by SGD with momentum 0.9.
    """

    learning_rate: float
    strength: float = START_STRENGTH
    _held: float = START_STRENGTH

    def __post_init__(self) -> None:
        logits = [self.network.selection.logits]
        if self.network.activation_selection is not None:
            logits.append(self.network.activation_selection.logits)
        self._logits = logits
        self._optimizer = torch.optim.SGD(logits, lr=self.learning_rate, momentum=0.9)
        self.network.penalty = self._penalty

    def _penalty(self, counts: ChannelBitCounts) -> Tensor:
        share = self.cost(counts)
        value = float(share.detach())
        if self._start is None:
            self._start = value
        gap = math.log(max(value, 1e-9) / self._wanted())
        self._held = _within(self._held * math.exp(INTEGRAL / self.n_steps * gap))
        self.strength = _within(self._held * math.exp(PROPORTIONAL * gap))
        if self._step % max(1, self.n_steps // 20) == 0:
            self.trace.append((value, self.strength))
        return self.strength * share

    def _wanted(self) -> float:
        assert self._start is not None  # noqa: S101 - set by the caller
        progress = min(1.0, self._step / max(1.0, REACHED_AT * self.n_steps))
        return self._start * math.exp(progress * math.log(AIMED_BELOW * self.target / self._start))

    def state(self) -> dict[str, Any]:
        """What `resume` goes on from."""
        own = {"strength": self.strength, "held": self._held, "optimizer": self._optimizer.state_dict()}
        return super().state() | own

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        super().resume(state)
        self.strength, self._held = state["strength"], state["held"]
        self._optimizer.load_state_dict(state["optimizer"])

    def __call__(self, _: nn.Module) -> None:
        """Step the logits on their own, cool down, and settle; the recipe's optimizer must not see them."""
        if self._step < self.n_steps:
            self._optimizer.step()
        for logits in self._logits:
            logits.grad = None
        self._step += 1
        if self._step > self.n_steps:
            return
        temperature = self.last_temperature ** (self._step / self.n_steps)
        self.network.selection.temperature = temperature
        if self.network.activation_selection is not None:
            self.network.activation_selection.temperature = temperature
        if self._step == self.n_steps:
            self.network.penalty = None
            self.settle()


def _within(strength: float) -> float:
    return min(max(strength, LEAST_STRENGTH), MOST_STRENGTH)
