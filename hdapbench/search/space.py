"""What is searched, under which constraints, and what a search remembers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hdapbench.cost.model import CostModel
from hdapbench.cost.target import repair
from hdapbench.errors import TargetUnreachableError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class SearchSpace:
    """Widths, what to minimise over them, and what they must satisfy.

    Attributes
    ----------
    cost
        Exact costs of widths.
    target_flops
        No plan may need more.
    objective
        Widths of shape (n_plans, n_groups) -> values of shape (n_plans,), lower is better.
    least_flops
        Plans that need fewer are not wanted; 0 for no limit.
    retained
        Widths -> importance kept, shape (n_plans,), or None.
    least_retained
        Plans that retain less are not wanted.
    least_widths
        Groups are not wanted narrower than this, shape (n_groups,), or None.
    round_to
        Widths are multiples of this, or the dense width.
    """

    cost: CostModel
    target_flops: int
    objective: Callable[[Integers], Floats]
    least_flops: int = 0
    retained: Callable[[Integers], Floats] | None = None
    least_retained: float = 0.0
    least_widths: Integers | None = None
    round_to: int = 1

    def violation(self, widths: Integers) -> Floats:
        """How far plans are from satisfying all constraints, shape (n_plans,); 0 when they do."""
        flops = self.cost.flops(widths).astype(float)
        total = np.maximum(flops / self.target_flops - 1.0, 0.0)
        if self.least_flops:
            total += np.maximum(1.0 - flops / self.least_flops, 0.0)
        if self.retained is not None and self.least_retained > 0:
            total += np.maximum(1.0 - self.retained(widths) / self.least_retained, 0.0)
        if self.least_widths is not None:
            total += (np.maximum(self.least_widths - widths, 0) / self.cost.sizes).sum(axis=1)
        return np.asarray(total)

    def repaired(self, widths: Floats | Integers) -> Integers:
        """Whole widths within the dense ones that meet the target, shape (n_plans, n_groups)."""
        rounded = np.clip(np.rint(widths), 1, self.cost.sizes).astype(np.int64)
        return repair(self.cost, rounded, self.target_flops)


@dataclass(frozen=True)
class SearchResult:
    """The best plan found.

    Attributes
    ----------
    widths
        Its widths, shape (n_groups,).
    value
        Its objective.
    n_evaluations
        Objective values computed.
    trace
        (Evaluations so far, best value so far) whenever it improved.
    runners_up
        Widths of other good plans that satisfy the constraints, best first, shape (n_others, n_groups).
    bound
        No plan over ``levels`` has a lower objective; None where the search cannot tell.
    levels
        The widths that the bound speaks of, in words.
    reason
        Why another algorithm than the one asked for searched, or an empty text.
    """

    widths: Integers
    value: float
    n_evaluations: int
    trace: tuple[tuple[int, float], ...]
    runners_up: Integers
    bound: float | None = None
    levels: str = ""
    reason: str = ""

    @property
    def gap(self) -> float | None:
        """How far the value can be above the optimum, relative to the bound; None without a bound."""
        if self.bound is None:
            return None
        return (self.value - self.bound) / max(abs(self.bound), 1e-300)


class Archive:
    """Every plan that satisfied the constraints, by value: what a search remembers."""

    def __init__(self, space: SearchSpace, *, limit: int) -> None:
        self.space = space
        self.limit = limit
        self.n_evaluations = 0
        self.trace: list[tuple[int, float]] = []
        self._plans: dict[tuple[int, ...], float] = {}

    @property
    def exhausted(self) -> bool:
        """Whether the evaluations are used up."""
        return self.n_evaluations >= self.limit

    def evaluate(self, widths: Integers) -> tuple[Floats, Floats]:
        """Objective and violation of plans, two arrays of shape (n_plans,)."""
        values, violation = self.space.objective(widths), self.space.violation(widths)
        best = self.best_value
        for plan, value in zip(widths[violation <= 0], values[violation <= 0], strict=True):
            self._plans[tuple(int(width) for width in plan)] = float(value)
        self.n_evaluations += len(widths)
        if self.best_value < best:
            self.trace.append((self.n_evaluations, self.best_value))
        if len(self._plans) > 4096:
            self._plans = dict(sorted(self._plans.items(), key=lambda item: item[1])[:1024])
        return values, violation

    @property
    def found(self) -> bool:
        """Whether any plan satisfied the constraints."""
        return bool(self._plans)

    @property
    def best(self) -> Integers:
        """The best plan's widths, shape (n_groups,)."""
        return np.array(min(self._plans.items(), key=lambda item: (item[1], item[0]))[0], dtype=np.int64)

    @property
    def best_value(self) -> float:
        """Least objective so far; infinity when no plan satisfied the constraints."""
        return min(self._plans.values(), default=float("inf"))

    def gap_to(self, bound: float) -> float:
        """How far the best value is above a bound, relative to it; infinity when there is no plan."""
        return (self.best_value - bound) / max(abs(bound), 1e-300)

    def result(self, *, n_runners_up: int = 16, bound: float | None = None, levels: str = "") -> SearchResult:
        """What was found.

        Parameters
        ----------
        bound, levels
            Lower bound of the objective, and the widths that it speaks of.

        Raises
        ------
        TargetUnreachableError
            When no plan satisfied the constraints.
        """
        if not self._plans:
            raise TargetUnreachableError(
                f"no plan within {self.space.target_flops:,} FLOPs satisfied the constraints in "
                f"{self.n_evaluations:,} evaluations; lower the importance guard or the least FLOPs share"
            )
        ordered = sorted(self._plans.items(), key=lambda item: (item[1], item[0]))[: n_runners_up + 1]
        plans = np.array([plan for plan, _ in ordered], dtype=np.int64)
        return SearchResult(plans[0], ordered[0][1], self.n_evaluations, tuple(self.trace), plans[1:], bound, levels)
