"""Plug-ins that depend on chance, mind no budget, look where they may not, or break the promises of their cards."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from hdapbench.errors import TargetUnreachableError
from hdapbench.method import Method, Plan, Problem
from hdapbench.method.budget import Budget
from hdapbench.spec import BudgetSpec, TargetKind


def largest(problem: Problem) -> Plan:
    """What a plug-in without a fault returns."""
    share = problem.solve_ratio()
    return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")


class Unseeded(Method):
    name = "unseeded"

    def compress(self, problem: Problem) -> Plan:
        rng = np.random.default_rng()  # here
        scores = {}
        for name, group in problem.groups.items():
            scores[name] = rng.random(group.n_channels)
        return problem.plan_by_scores(scores)


class Remembers(Method):
    name = "remembers"

    def compress(self, problem: Problem) -> Plan:
        CALLS.append(1)
        n_calls = len(CALLS)  # here
        scores = {name: np.arange(group.n_channels) * (-1.0) ** n_calls for name, group in problem.groups.items()}
        return problem.plan_by_scores(scores)


CALLS: list[int] = []


class IgnoresItsBudget(Method):
    name = "ignores_its_budget"

    def compress(self, problem: Problem) -> Plan:
        try:
            problem.latency(problem.cost.sizes)
        except Exception:
            return problem.plan_by_widths(problem.cost.sizes, "l1")  # here
        return largest(problem)


class HidesItsBudgetError(Method):
    name = "hides_its_budget_error"

    def compress(self, problem: Problem) -> Plan:
        try:
            problem.latency(problem.cost.sizes)
        except Exception:
            raise ValueError("no latency, no plan") from None  # here
        return largest(problem)


class PaysItself(Method):
    name = "pays_itself"

    def compress(self, problem: Problem) -> Plan:
        problem.budget.charge("device_queries", -100)  # here
        return largest(problem)


class RaisesItsLimits(Method):
    name = "raises_its_limits"

    def compress(self, problem: Problem) -> Plan:
        problem.budget.limits = BudgetSpec()
        problem.latency(problem.cost.sizes)
        return largest(problem)


class HearsNoRefusal(Method):
    name = "hears_no_refusal"

    def compress(self, problem: Problem) -> Plan:
        try:
            share = problem.solve_ratio()
        except Exception:
            share = 0.0
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")  # here


class LooksAtTheTestSplit(Method):
    name = "looks_at_the_test_split"

    def compress(self, problem: Problem) -> Plan:
        plan = largest(problem)
        test = problem._bench.search  # here
        problem.remember("n_test_images", len(test))
        return plan


class OpensANewBudget(Method):
    name = "opens_a_new_budget"

    def compress(self, problem: Problem) -> Plan:
        problem.budget = Budget(BudgetSpec())  # here
        problem.latency(problem.cost.sizes)
        return largest(problem)


class MeasuresInSecret(Method):
    """Keep the largest.

    Source: none.
    Needs: weights.
    Never sees: latency, accuracy.
    """

    name = "measures_in_secret"

    def compress(self, problem: Problem) -> Plan:
        problem.latency(problem.cost.sizes)  # here
        return largest(problem)


class MeasuresUnderASize(Method):
    """Keep nothing.

    Source: none.
    Needs: nothing.
    Never sees: latency.
    """

    name = "measures_under_a_size"
    targets: ClassVar[frozenset[TargetKind]] = frozenset({"size"})

    def compress(self, problem: Problem) -> Plan:
        problem.devices.latency_share(problem.cost.sizes)  # here
        raise TargetUnreachableError("it is too small")


class ReadsImagesInSecret(Method):
    """Keep the largest.

    Never sees: training images.
    """

    name = "reads_images_in_secret"

    def compress(self, problem: Problem) -> Plan:
        next(iter(problem.training.batches(8)))  # here
        return largest(problem)


class PromisesWhatNobodyCanCheck(Method):
    """Keep the largest.

    Never sees: tomorrow.
    """

    name = "promises_what_nobody_can_check"

    def compress(self, problem: Problem) -> Plan:
        return largest(problem)
