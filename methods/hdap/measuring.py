"""Plans measured so far, and the surrogate fitted to them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Literal

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.errors import BudgetExceededError
from hdapbench.method import Problem
from hdapbench.method.decisions import MeasuredOptimum
from hdapbench.search import SearchSpace, TableObjective
from hdapbench.surrogate.base import AdditiveSurrogate, Surrogate
from hdapbench.surrogate.fit import LEAST_PLANS, SurrogateName, fit_surrogate
from hdapbench.surrogate.measured import MeasuredPlans
from hdapbench.surrogate.report_card import ReportCard, report_card

Devices = Literal["fleet", "one_cluster", "nominal"]

LEAST_AFFORDABLE = 8


class SurrogateObjective(TableObjective):
    """Predicted average clustered latency as a sum over kernels."""

    def __init__(self, surrogate: AdditiveSurrogate) -> None:
        self.kernels, self._surrogate = surrogate.kernels, surrogate
        self.constant = surrogate.constant_ms

    def kernel_cost(self, number: int, in_channels: Integers, out_channels: Integers) -> Floats:
        """Predicted cost of one kernel in ms, shape (n_pairs,)."""
        return self._surrogate.kernel_cost_ms(number, np.stack([in_channels, out_channels], axis=1))

    def __call__(self, widths: object) -> Floats:
        """Predicted average clustered latency in ms, shape (n_plans,)."""
        return self._surrogate.predict_average(np.atleast_2d(np.asarray(widths, dtype=np.int64)))


def objective_of(surrogate: Surrogate) -> Callable[[Integers], Floats]:
    """What a search minimises: a sum over kernels where the surrogate is one."""
    return SurrogateObjective(surrogate) if isinstance(surrogate, AdditiveSurrogate) else surrogate.predict_average


class Measurer:
    """Measures plans on the devices that a method looks at, and predicts the others.

    Parameters
    ----------
    problem
        Whose devices are asked and charged.
    kind
        Of the surrogate.
    devices
        ``fleet``: every cluster's representatives. ``one_cluster``: those of the largest cluster. ``nominal``: one new
        board on the bench.
    equal_weights
        Whether clusters count alike, whatever their share of the fleet.
    """

    def __init__(self, problem: Problem, *, kind: SurrogateName, devices: Devices, equal_weights: bool) -> None:
        self._problem, self._kind, self._devices, self._equal_weights = problem, kind, devices, equal_weights
        self._plans: MeasuredPlans | None = None
        self._surrogate: Surrogate | None = None
        self.rounds: list[MeasuredOptimum] = []

    @cached_property
    def _weights(self) -> Floats:
        if self._devices != "fleet":
            return np.ones(1)
        weights = np.asarray(self._problem.devices.cluster_weights)
        return np.full(len(weights), 1 / len(weights)) if self._equal_weights else weights

    @property
    def n_columns(self) -> int:
        """Latencies per plan: clusters, or one."""
        return len(self._weights)

    @property
    def measured_any(self) -> bool:
        """Whether any plan was measured."""
        return self._plans is not None

    @property
    def covers_fleet(self) -> bool:
        """Whether the columns are the fleet's clusters."""
        return self._devices == "fleet"

    @property
    def plans(self) -> MeasuredPlans:
        """What was measured."""
        if self._plans is None:
            raise RuntimeError("nothing was measured yet")
        return self._plans

    @property
    def too_few(self) -> bool:
        """Whether a surrogate cannot be fitted: a network of few widths has few plans."""
        return self._plans is None or len(self._plans) < LEAST_PLANS

    @property
    def surrogate(self) -> Surrogate:
        """What predicts plans that were not measured, fitted to all that were."""
        if self._surrogate is None:
            self._surrogate = fit_surrogate(self._kind, self.plans, seed=self._problem.training.seed)
        return self._surrogate

    def card(self) -> ReportCard:
        """What can be said about the surrogate's errors without measuring anything more."""
        return report_card(self._kind, self.plans, seed=self._problem.training.seed)

    def measure(self, widths: Integers) -> Floats:
        """Average latency in ms of plans measured in one session, shape (n_plans,), without keeping it."""
        return np.asarray(self._ask(widths) @ self._weights)

    def add(self, widths: Integers) -> None:
        """Measure plans that are new, as many as the budget allows, and refit.

        Raises
        ------
        BudgetExceededError
            When fewer plans than are needed can still be measured.
        """
        known = set() if self._plans is None else {tuple(plan) for plan in self._plans.widths.tolist()}
        wanted = dict.fromkeys(map(tuple, widths.tolist()))  # in the given order: a short budget cuts the tail
        fresh = np.array([plan for plan in wanted if plan not in known], dtype=np.int64)
        if not len(fresh):
            return
        affordable = self._affordable(len(fresh))
        if affordable < min(len(fresh), LEAST_AFFORDABLE):
            raise BudgetExceededError(f"{affordable} plans can still be measured, {len(fresh)} are needed")
        self.keep(fresh[:affordable])

    def keep(self, widths: Integers) -> Floats:
        """Measure plans and keep what came of it; latency in ms, shape (n_plans, n_columns).

        Raises
        ------
        BudgetExceededError
            When not all of them can be measured; what can be is measured and kept.
        """
        affordable = self._affordable(len(widths))
        if affordable:
            latency = self._ask(widths[:affordable])
            if self._plans is None:
                problem = self._problem
                self._plans = MeasuredPlans(
                    problem.devices.kernels, widths[:affordable], latency, self._weights, problem.devices.tiling
                )
            else:
                self._plans = self._plans.joined(widths[:affordable], latency)
            self._surrogate = None
        if affordable < len(widths):
            raise BudgetExceededError(f"{affordable} plans can still be measured, {len(widths)} are needed")
        return latency

    def fastest(self, space: SearchSpace, n_plans: int) -> list[Integers]:
        """Widths of measured plans that satisfy all constraints, those first that the surrogate takes for the fastest.

        The surrogate has seen them all and smooths their noise: the least of many measurements is the luckiest. Where
        they are too few for one, measurements count.
        """
        distinct, rows = np.unique(self.plans.widths, axis=0, return_index=True)
        there = (distinct <= space.cost.sizes).all(axis=1)  # earlier iterations had wider plans
        distinct, rows = distinct[there], rows[there]
        within = space.violation(distinct) <= 0
        allowed, rows = distinct[within], rows[within]
        if not len(allowed):
            return []
        latency = self.plans.average_ms[rows] if self.too_few else self.surrogate.predict_average(allowed)
        order = np.argsort(latency, kind="stable")
        return list(allowed[order][:n_plans])

    def _affordable(self, n_plans: int) -> int:
        """How many of so many plans the budget still allows."""
        return int(min(self._problem.budget.remaining("device_queries") / self._queries_per_plan, n_plans))

    @property
    def _queries_per_plan(self) -> int:
        return self._problem.devices.n_measured if self._devices == "fleet" else 1

    def _ask(self, widths: Integers) -> Floats:
        """Latency in ms, shape (n_plans, n_columns)."""
        if self._devices == "fleet":
            return self._problem.latency(widths)
        if self._devices == "one_cluster":
            return self._problem.latency(widths, cluster=self._problem.devices.nominal_cluster)
        return self._problem.devices.nominal_latency(widths)[:, None]
