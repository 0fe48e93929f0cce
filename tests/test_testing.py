from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from hdapbench.method import Method, Plan, Problem
from hdapbench.testing import check_method, tiny_problem


class Good(Method):
    """Keep the least share of every group, by norm."""

    name = "good"

    def compress(self, problem: Problem) -> Plan:
        share = problem.solve_ratio()
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")


class Printing(Good):
    def compress(self, problem: Problem) -> Plan:
        print("working")
        return super().compress(problem)


class Forgetful(Good):
    def compress(self, problem: Problem) -> Plan:
        plan = super().compress(problem)
        return plan.model_copy(update={"kept": dict(list(plan.kept.items())[1:])})


class Greedy(Good):
    def compress(self, problem: Problem) -> Plan:
        problem.solve_ratio()
        return problem.plan_by_widths(problem.sizes, "l1")


class GloballyRandom(Good):
    def compress(self, problem: Problem) -> Plan:
        random.random()
        np.random.rand()  # noqa: NPY002 - what this plug-in does wrong
        torch.rand(1)
        return super().compress(problem)


class Unsteady(Good):
    def compress(self, problem: Problem) -> Plan:
        scores = {name: np.random.default_rng().random(group.n_channels) for name, group in problem.groups.items()}
        return problem.plan_by_scores(scores)


class Vandal(Good):
    def compress(self, problem: Problem) -> Plan:
        with torch.no_grad():
            next(iter(problem._network.model.parameters())).mul_(2.0)
        return super().compress(problem)


class Deaf(Good):
    def compress(self, problem: Problem) -> Plan:
        try:
            share = problem.solve_ratio()
        except Exception:
            share = 0.0
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")


class Mute(Good):
    def skip(self, problem: Problem) -> str | None:
        return ""


class Crashing(Good):
    def compress(self, problem: Problem) -> Plan:
        raise RuntimeError("out of ideas")


def test_a_method_that_keeps_the_rules_has_no_violation() -> None:
    assert check_method(Good()) == []


@pytest.mark.parametrize(
    ("method", "rule", "message"),
    [
        (Printing(), "nothing is printed", "use problem.progress"),
        (Forgetful(), "plans fit, meet the target and survive JSON", "is not planned"),
        (Greedy(), "plans fit, meet the target and survive JSON", "above the target"),
        (GloballyRandom(), "global random state is left alone", "random, numpy.random, torch"),
        (Unsteady(), "the same seed gives the same plan", "problem.rng"),
        (Vandal(), "the dense model is left alone", "work on problem.model()"),
        (Deaf(), "a target out of reach is said", "TargetUnreachableError"),
        (Mute(), "skip gives None or a reason", "None or a reason"),
        (Crashing(), "nothing is printed", "RuntimeError: out of ideas"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Method) else None,
)
def test_each_bad_plug_in_is_caught_by_its_rule(method: Method, rule: str, message: str) -> None:
    violations = check_method(method, ("plain",))

    assert any(violation.rule == rule and message in violation.message for violation in violations)


def test_the_plain_model_has_a_group_of_two_channels_and_a_frozen_one_of_one() -> None:
    problem = tiny_problem("plain")

    assert 2 in problem.sizes
    assert any("single channel" in group.reason for group in problem._network.group_set.frozen)
