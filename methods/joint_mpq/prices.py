"""Logits in closed form: what the task would lose, against what bits cost at the price that meets the wanted cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hdapbench.quant.training.selection import SelectionLogits

from .control import SearchControl

REACHED_AT = 0.8
"""Share of the time until bit-widths are settled after which the soft cost is to be at its target."""

WATCHED_FOR = 0.1
"""Share of that time in which nothing but gradients is watched, at the greatest bit-width everywhere."""

MEMORY = 0.3
"""Share of that time over which squared gradients are averaged."""

STEPS_PER_PRICE = 10
"""Steps between two looks at prices."""

FIRST_TEMPERATURE = 0.3
MOST_LOSS = 50.0
"""Logits further below the best than this are as good as forbidden."""

HALVINGS = 24
LOG_PRICES = (-60.0, 60.0)


@dataclass
class PriceControl(SearchControl):
    """Logits that are not trained, but follow from gradients and prices.

    The gradient of the loss with respect to a channel's shares says what moving it to fewer bits would change. Its
    square, averaged over steps, estimates the loss that the move costs (empirical Fisher information, as in
    arXiv 1801.05787 for pruning). A logit is minus that loss, in units of what the channel costs at the greatest
    bit-width, minus the cost of the choice in the same unit. The price of the cost is found by bisection, so that the
    soft cost is where a geometric path to the target wants it: it can neither lag behind nor overshoot.

    Attributes
    ----------
    removal_factor
        What the estimated loss of taking 0 bits is multiplied by. Rounding errors are small, and training makes up for
        much of them; a removed channel is a large change, which squared gradients at the present weights underrate.
    """

    removal_factor: float = 1.0

    def __post_init__(self) -> None:
        found = [self.network.selection, self.network.activation_selection]
        self._selections: list[SelectionLogits] = [selection for selection in found if selection is not None]
        self._losses: list[Tensor | None] = [None for _ in self._selections]
        for selection in self._selections:
            with torch.no_grad():
                selection.logits.zero_()
                selection.logits[:, -1] = 1.0
            selection.temperature = self.last_temperature
        self.network.watch = self._watch

    def after_backward(self, _: nn.Module) -> None:
        """Find the price of the cost now and then, cool down, and settle; logits are not trained."""
        for selection in self._selections:
            selection.logits.grad = None
        self._step += 1
        if self._step > self.n_steps:
            return
        progress = self._step / self.n_steps
        if self._step == self.n_steps or (progress > WATCHED_FOR and self._step % STEPS_PER_PRICE == 0):
            for selection in self._selections:
                selection.temperature = FIRST_TEMPERATURE * (self.last_temperature / FIRST_TEMPERATURE) ** progress
            self._reprice(progress)
        if self._step == self.n_steps:
            self.network.watch = None
            self.settle()

    def _watch(self, place: int, gradient: Tensor) -> None:
        """Average what moves away from the greatest bit-width would change, squared."""
        change = (gradient - gradient[:, -1:]).double()
        squared = self._by_row(self._selections[place], change).square()
        known = self._losses[place]
        kept = 1.0 - 1.0 / max(1.0, min(self._step + 1, MEMORY * self.n_steps))
        self._losses[place] = squared if known is None else kept * known + (1.0 - kept) * squared

    def _reprice(self, progress: float) -> None:
        if any(loss is None for loss in self._losses):
            return
        prices = self._prices()
        if self._start is None:
            self._start = self._soft_cost()
            self.trace.append((self._start, 0.0))
        rest = min(1.0, (progress - WATCHED_FOR) / (REACHED_AT - WATCHED_FOR))
        wanted = self._start * math.exp(max(0.0, rest) * math.log(min(1.0, self.target / self._start)))
        low, high = LOG_PRICES
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            self._set(math.exp(middle), prices)
            low, high = (middle, high) if self._soft_cost() > wanted else (low, middle)
        self._set(math.exp(high), prices)
        self.trace.append((self._soft_cost(), math.exp(high)))

    def _prices(self) -> list[Tensor]:
        """What each choice of each row adds to the cost, as the gradient at the present shares."""
        leaves = [shares.requires_grad_() for shares in self._shares()]
        gradients = torch.autograd.grad(self._cost_of(leaves), leaves, allow_unused=True)
        found = []
        for selection, leaf, gradient in zip(self._selections, leaves, gradients, strict=True):
            price = torch.zeros_like(leaf) if gradient is None else gradient
            found.append(self._by_row(selection, price.double()).clamp_min(0.0))
        return found

    @torch.no_grad()
    def _set(self, price: float, prices: list[Tensor]) -> None:
        for selection, of_choice, loss in zip(self._selections, prices, self._losses, strict=True):
            assert loss is not None  # noqa: S101 - the caller made sure
            unit = of_choice[:, -1:].clamp_min(1e-12)
            lost = loss / (price * unit)
            if selection.bits[0] == 0:
                lost[:, 0] *= self.removal_factor
            lost.clamp_max_(MOST_LOSS)
            selection.logits.copy_(-(lost + of_choice / unit))

    @torch.no_grad()
    def _soft_cost(self) -> float:
        return float(self._cost_of(self._shares()))

    def _cost_of(self, shares: list[Tensor]) -> Tensor:
        return self.cost(self.network.counts_of(shares[0], shares[1] if len(shares) > 1 else None))

    @torch.no_grad()
    def _shares(self) -> list[Tensor]:
        return [selection.soft() for selection in self._selections]

    def _by_row(self, selection: SelectionLogits, values: Tensor) -> Tensor:
        """Values per channel as values per row of the logits, which is a whole layer where layers choose as one."""
        if selection.granularity == "channel":
            return values
        zeros = values.new_zeros(len(selection.selectors), values.shape[1])
        return zeros.index_add(0, selection.owner, values)
