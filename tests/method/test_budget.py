"""Budgets hold, whatever is charged and whatever is caught."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from hdapbench.errors import BudgetExceededError, TimeLimitError
from hdapbench.method.budget import Budget
from hdapbench.spec import BudgetSpec


@pytest.mark.parametrize("amount", [float("inf"), float("nan"), -1, 1e400])
def test_what_cannot_be_paid_is_no_charge(amount: float) -> None:
    budget = Budget(BudgetSpec())

    with pytest.raises(ValueError, match="finite and 0 or more"):
        budget.charge("device_queries", amount)

    assert budget.spent.device_queries == 0


def test_charges_that_add_up_to_infinity_are_refused() -> None:
    budget = Budget(BudgetSpec())
    budget.charge("device_queries", 1e308)

    with pytest.raises(ValueError, match="finite"):
        budget.charge("device_queries", 1e308)

    assert budget.spent.device_queries == int(1e308)


def _catches_exceptions() -> None:
    while True:
        with suppress(Exception):
            time.sleep(0.01)


def _catches_everything() -> None:
    while True:
        try:
            time.sleep(0.01)
        except BaseException:  # noqa: S112
            continue


def _goes_on_for_a_while() -> None:
    end = time.monotonic() + 2
    while time.monotonic() < end:
        with suppress(BaseException):
            time.sleep(0.01)


@pytest.mark.parametrize("code", [_catches_exceptions, _catches_everything, _goes_on_for_a_while])
def test_a_time_limit_ends_code_that_catches_what_stops_it(code: Callable[[], None]) -> None:
    budget = Budget(BudgetSpec(wall_seconds=0.1))

    with pytest.raises(TimeLimitError, match=r"the time limit of 0.1 s is up"), budget.enforced():
        code()


def test_a_plan_may_still_be_handed_in_right_after_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    budget, now = Budget(BudgetSpec(wall_seconds=600)), time.monotonic

    with budget.enforced():
        monkeypatch.setattr(time, "monotonic", lambda: now() + 610)
        with pytest.raises(BudgetExceededError):
            budget.check_time()
