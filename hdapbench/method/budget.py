"""Budget: what a method may use up, and what it has used. Every costly call of a Problem is charged here."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from hdapbench.errors import BudgetExceededError
from hdapbench.spec import BudgetSpec
from hdapbench.trial import Spent

Account = Literal["device_queries", "accuracy_evals", "train_epochs"]


class Budget:
    """Limits and what is spent, in device queries, accuracy evaluations, training epochs and seconds.

    Parameters
    ----------
    limits
        Upper limits; None means unlimited.
    """

    def __init__(self, limits: BudgetSpec) -> None:
        self.limits = limits
        self._spent: dict[Account, float] = {"device_queries": 0, "accuracy_evals": 0, "train_epochs": 0.0}
        self._started = time.monotonic()

    def remaining(self, account: Account) -> float:
        """What is left of one account; infinity when it has no limit."""
        limit: float | None = getattr(self.limits, account)
        return float("inf") if limit is None else limit - self._spent[account]

    def charge(self, account: Account, amount: float) -> None:
        """Take ``amount`` from an account, before the work is done.

        Raises
        ------
        BudgetExceededError
            When less than ``amount`` is left, or the time is up. Nothing is charged then.
        ValueError
            When the amount is negative: nothing is paid back.
        """
        if not amount >= 0:
            raise ValueError(f"{amount:g} {account} cannot be charged; amounts are 0 or more")
        self.check_time()
        if amount > self.remaining(account) + 1e-9:
            limit = getattr(self.limits, account)
            raise BudgetExceededError(
                f"{amount:g} {account} asked for, {self.remaining(account):g} left of {limit:g}; "
                f"raise budget.{account} in the spec or ask for less (problem.budget.remaining)"
            )
        self._spent[account] += amount

    def check_time(self) -> None:
        """Raise `BudgetExceededError` when ``wall_seconds`` have passed."""
        limit = self.limits.wall_seconds
        if limit is not None and time.monotonic() - self._started > limit:
            raise BudgetExceededError(f"the time limit of {limit:g} s is up; raise budget.wall_seconds in the spec")

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """Stop code that asks for nothing, a while after its time is up; in the main thread only."""
        limit = self.limits.wall_seconds
        if limit is None or not hasattr(signal, "setitimer") or threading.current_thread() != threading.main_thread():
            yield
            return

        def ring(_number: int, _frame: Any) -> None:
            self.check_time()

        grace = 1.0 + limit / 10  # who asks for something meanwhile is stopped there
        handler = signal.signal(signal.SIGALRM, ring)
        timer = signal.setitimer(signal.ITIMER_REAL, limit + grace, limit + grace)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, *timer)
            signal.signal(signal.SIGALRM, handler)

    @property
    def spent(self) -> Spent:
        """What has been used so far, the seconds since the budget was opened included."""
        return Spent(
            device_queries=int(self._spent["device_queries"]),
            accuracy_evals=math.ceil(self._spent["accuracy_evals"] - 1e-9),
            train_epochs=round(self._spent["train_epochs"], 6),
            wall_seconds=round(time.monotonic() - self._started, 3),
        )
