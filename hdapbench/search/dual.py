"""The best lower bound that prices on the constraints give: Lagrangian dual by cutting planes. Pure numpy.

With a price on FLOPs above the target, one on FLOPs below the least, and one on missing importance, the constrained
minimum cannot be below the unconstrained minimum of the priced sum. Every such minimum is a plan and a plane above the
concave dual; a linear program finds where the planes allow the most (Kelley, "The cutting-plane method for solving
convex programs", 1960).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hdapbench.arrays import Booleans, Floats, Integers
from hdapbench.search.cutting_planes import solve_cutting_planes
from hdapbench.search.eliminate import Eliminator

ACCURACY = 1e-5
"""The bound is at most this much below the best that prices can give, relative to it."""
_SMOOTHING = 0.4
_ROUNDING = 1e-12
_FIRST_BOX, _LAST_BOX = 1e2, 1e8


@dataclass(frozen=True)
class Limits:
    """What plans must satisfy.

    Attributes
    ----------
    most_flops, least_flops
        Multiply-accumulates; ``least_flops`` 0 for no limit.
    least_kept
        Importance; 0 for no limit.
    """

    most_flops: float
    least_flops: float = 0.0
    least_kept: float = 0.0

    def excess(self, flops: Floats, kept: Floats) -> Floats:
        """How far each constraint is from being met, relative, negative when it is; shape (n_plans, 3)."""
        least = 1.0 - flops / self.least_flops if self.least_flops else np.full_like(flops, -1.0)
        missing = 1.0 - kept / self.least_kept if self.least_kept > 0 else np.full_like(kept, -1.0)
        return np.stack([flops / self.most_flops - 1.0, least, missing], axis=1)

    def met(self, flops: Floats, kept: Floats) -> Booleans:
        """Which plans satisfy all constraints, importance but for rounding, shape (n_plans,)."""
        return (flops <= self.most_flops) & (flops >= self.least_flops) & (kept >= self.least_kept * (1 - _ROUNDING))

    @property
    def active(self) -> tuple[int, ...]:
        """Positions of the constraints that exist, among most FLOPs, least FLOPs, importance."""
        return tuple(i for i, there in enumerate((True, self.least_flops > 0, self.least_kept > 0)) if there)


@dataclass(frozen=True)
class Prices:
    """One point of the dual.

    Attributes
    ----------
    per_flop, per_importance
        What a multiply-accumulate costs and what importance is worth, in the objective's unit.
    bound
        No plan that meets the limits has a lower objective.
    at
        The plan that is least at these prices, level positions.
    cost, flops, kept
        Its objective, multiply-accumulates and importance.
    """

    per_flop: float
    per_importance: float
    bound: float
    at: Integers
    cost: float
    flops: float
    kept: float


@dataclass(frozen=True)
class Effort:
    """When to stop looking for better prices.

    Attributes
    ----------
    minimisations
        After so many.
    enough
        When a bound reaches this.
    """

    minimisations: int = 80
    enough: float = np.inf


def prices(
    eliminator: Eliminator,
    limits: Limits,
    *,
    scale: float,
    first: Sequence[Prices] = (),
    known: Sequence[Prices] = (),
    effort: Effort | None = None,
) -> Iterator[Prices]:
    """Points of the dual, until their bounds cannot become better; the best bound seen is the dual's maximum.

    Parameters
    ----------
    scale
        Size of the objective, such as a known plan's value: where prices begin.
    first
        Prices of a similar problem, to begin with.
    known
        Points of a wider problem whose plans are plans of this one too.
    effort
        When to stop before that.
    """
    effort = effort or Effort()
    active = list(limits.active)
    unit = max(abs(scale), 1e-12)
    planes = [_plane(point, limits, unit) for point in known]
    # In units of the objective per unit of relative excess.
    waiting = [_relative(point, limits)[active] / unit for point in first]
    waiting = waiting or [np.where(np.array(active) == 1, 0.0, 0.5)]
    box, best, centre = _FIRST_BOX, -np.inf, waiting[0]
    target = centre
    for number in range(effort.minimisations):
        point = waiting[number] if number < len(waiting) else _SMOOTHING * centre + (1 - _SMOOTHING) * target
        found = _ask(eliminator, limits, point * unit)
        planes.append(_plane(found, limits, unit))
        yield found
        if found.bound > best:
            best, centre = found.bound, point
        if best >= effort.enough:
            return
        while True:
            upper, target = solve_cutting_planes(
                np.array([o for o, _ in planes]), np.stack([s for _, s in planes]), box
            )
            if target.max() < 0.99 * box or box >= _LAST_BOX:
                break
            box *= 100.0
        if upper * unit - best <= ACCURACY * max(abs(best), 1e-12):
            return


def _relative(point: Prices, limits: Limits) -> Floats:
    """Prices per relative excess of most FLOPs, least FLOPs and importance."""
    most, least = max(point.per_flop, 0.0) * limits.most_flops, max(-point.per_flop, 0.0) * limits.least_flops
    return np.array([most, least, point.per_importance * limits.least_kept])


def _plane(point: Prices, limits: Limits, unit: float) -> tuple[float, Floats]:
    """Height at no prices and slopes of the plane that a point's plan puts above the dual."""
    excess = limits.excess(np.array([point.flops]), np.array([point.kept]))[0]
    return point.cost / unit, excess[list(limits.active)]


def _ask(eliminator: Eliminator, limits: Limits, price: Floats) -> Prices:
    """Point of the dual at prices per relative excess, shape (n_active,)."""
    full = np.zeros(3)
    full[list(limits.active)] = price
    per_flop = full[0] / limits.most_flops - (full[1] / limits.least_flops if limits.least_flops else 0.0)
    per_importance = full[2] / limits.least_kept if limits.least_kept > 0 else 0.0
    found = eliminator.minimise(float(per_flop), float(per_importance))
    # Sums of tables are rounded: a bound that is safe gives a little away.
    bound = found.value - full[0] + full[1] + full[2] - 1e-11 * (abs(found.value) + full.sum())
    cost, flops, kept = eliminator.graph.value(found.at)
    return Prices(float(per_flop), float(per_importance), float(bound), found.at, cost, flops, kept)
