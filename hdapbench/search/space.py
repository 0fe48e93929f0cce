"""What is searched, under which constraints, and what a search remembers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from hdapbench.arrays import Booleans, Floats, Integers
from hdapbench.cost.model import CostModel
from hdapbench.cost.target import widths_at_share
from hdapbench.errors import SearchError, TargetUnreachableError


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

    Raises
    ------
    SearchError
        When the limits contradict each other.
    """

    cost: CostModel
    target_flops: int
    objective: Callable[[Integers], Floats]
    least_flops: int = 0
    retained: Callable[[Integers], Floats] | None = None
    least_retained: float = 0.0
    least_widths: Integers | None = None
    round_to: int = 1

    def __post_init__(self) -> None:
        n_groups = len(self.cost.sizes)
        if self.round_to < 1:
            raise SearchError(f"round_to is {self.round_to}; widths are multiples of it, so it must be at least 1")
        if self.target_flops < 1:
            raise SearchError(f"the target is {self.target_flops} FLOPs; it must be at least 1")
        if self.least_flops > self.target_flops:
            raise SearchError(f"no plan needs at least {self.least_flops:,} and at most {self.target_flops:,} FLOPs")
        if self.least_widths is not None and np.shape(self.least_widths) != (n_groups,):
            shape = np.shape(self.least_widths)
            raise SearchError(f"least_widths has the shape {shape}, but there are {n_groups} groups")

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

    def lacks(self, widths: Integers) -> Booleans:
        """Which plans need wider groups, for importance or least FLOPs, shape (n_plans,)."""
        lacking = self.cost.flops(widths) < self.least_flops
        if self.retained is not None and self.least_retained > 0:
            lacking |= self.retained(widths) < self.least_retained
        return np.asarray(lacking)

    @property
    def demands_more(self) -> bool:
        """Whether narrower plans can violate a limit: importance or least FLOPs."""
        return self.least_flops > 0 or (self.retained is not None and self.least_retained > 0)

    def rounded(self, shares: Floats) -> Integers:
        """Widths nearest to kept shares, on the grid and not below the least widths, shape (n_plans, n_groups)."""
        widths = widths_at_share(self.cost, shares, round_to=self.round_to)
        return widths if self.least_widths is None else np.maximum(widths, self._least_on_grid)

    def every_plan(self, most: int) -> Integers | None:
        """All plans on the grid, shape (n_plans, n_groups), or None where there are more than so many."""
        sizes = self.cost.sizes
        widths = np.minimum(np.arange(1, sizes.max() + 1)[:, None], sizes)  # (n_widths, n_groups)
        choices = [np.unique(column) for column in self.rounded(widths / sizes).T]
        if prod(len(choice) for choice in choices) > most:
            return None
        return np.stack(np.meshgrid(*choices, indexing="ij"), axis=-1).reshape(-1, len(sizes))

    @cached_property
    def _least_on_grid(self) -> Integers:
        if self.least_widths is None:
            return np.ones_like(self.cost.sizes)
        up = -(-self.least_widths // self.round_to) * self.round_to
        return np.minimum(up, self.cost.sizes)


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
    history
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
    history: tuple[tuple[int, float], ...]
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
    """Every plan that satisfied the constraints, by value: what a search remembers.

    Parameters
    ----------
    space
        The problem.
    limit
        Objective values that may be computed.
    """

    def __init__(self, space: SearchSpace, *, limit: int) -> None:
        self.space = space
        self.limit = limit
        self.n_evaluations = 0
        self.history: list[tuple[int, float]] = []
        self._plans: dict[tuple[int, ...], float] = {}
        self._best: tuple[float, tuple[int, ...]] = (float("inf"), ())

    @property
    def exhausted(self) -> bool:
        """Whether the evaluations are used up."""
        return self.n_evaluations >= self.limit

    @property
    def left(self) -> int:
        """Objective values that may still be computed."""
        return max(self.limit - self.n_evaluations, 0)

    def evaluate(self, widths: Integers) -> tuple[Floats, Floats]:
        """Objective and violation of plans, two arrays of shape (n_plans,).

        Plans for which no evaluations are left are not valued: both are infinite for them.
        """
        values, violation = np.full(len(widths), np.inf), np.full(len(widths), np.inf)
        valued = widths[: self.left]
        if not len(valued):
            return values, violation
        values[: len(valued)], violation[: len(valued)] = self.space.objective(valued), self.space.violation(valued)
        before = self._best[0]
        for row in np.flatnonzero(violation <= 0).tolist():
            plan, value = tuple(valued[row].tolist()), float(values[row])
            self._plans[plan] = value
            self._best = min(self._best, (value, plan))
        self.n_evaluations += len(valued)
        if self._best[0] < before:
            self.history.append((self.n_evaluations, self._best[0]))
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
        return np.array(self._best[1], dtype=np.int64)

    @property
    def best_value(self) -> float:
        """Least objective so far; infinity when no plan satisfied the constraints."""
        return self._best[0]

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
        return SearchResult(plans[0], ordered[0][1], self.n_evaluations, tuple(self.history), plans[1:], bound, levels)
