"""Budget: what a method may use up, and what it has used. Every costly call of a Problem is charged here."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Literal

from hdapbench.errors import BudgetExceededError, TimeLimitError
from hdapbench.spec import BudgetSpec
from hdapbench.trial import Spent

Account = Literal["device_queries", "accuracy_evals", "train_epochs"]
AGAIN_SECONDS = 1.0
"""After which a method that goes on after it was stopped is stopped again."""


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
            When the amount is negative, infinite or no number: nothing is paid back, and everything can be paid.
        """
        self.check(account, amount)
        self._spent[account] += float(amount)

    def check(self, account: Account, amount: float) -> None:
        """Raise what `charge` would, and charge nothing."""
        amount = float(amount)
        if not amount >= 0 or not math.isfinite(amount + self._spent[account]):
            raise ValueError(f"{amount:g} {account} cannot be charged; amounts are finite and 0 or more")
        self.check_time()
        if amount > self.remaining(account) + 1e-9:
            limit = getattr(self.limits, account)
            raise BudgetExceededError(
                f"{amount:g} {account} asked for, {self.remaining(account):g} left of {limit:g}; "
                f"raise budget.{account} in the spec or ask for less (problem.budget.remaining)"
            )

    def check_time(self) -> None:
        """Raise `BudgetExceededError` when ``wall_seconds`` have passed, and `TimeLimitError` a while later.

        The first may be caught, to hand in the best plan so far; the second ends what does not come to an end.
        """
        limit = self.limits.wall_seconds
        if limit is None or (passed := time.monotonic() - self._started) <= limit:
            return
        raise TimeLimitError(self._told) if passed > limit + self._grace else BudgetExceededError(self._told)

    @property
    def _told(self) -> str:
        return f"the time limit of {self.limits.wall_seconds:g} s is up; raise budget.wall_seconds in the spec"

    @property
    def _grace(self) -> float:
        """Seconds after the limit in which a plan may still be handed in."""
        return 1.0 + (self.limits.wall_seconds or 0.0) / 10

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """Stop code a while after its time is up: in the main thread wherever it is, else when it ends.

        Raises
        ------
        TimeLimitError
            When it was stopped, or took longer.
        """
        limit = self.limits.wall_seconds
        if limit is None:
            yield
            return
        if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
            with self._alarm(limit + self._grace):
                yield
        else:
            yield
        if time.monotonic() - self._started > limit + self._grace:
            self.check_time()

    @contextmanager
    def _alarm(self, seconds: float) -> Iterator[None]:
        """Raise `TimeLimitError` in the block after so many seconds, and again while it goes on."""
        n_rings, is_inside, tracer = 0, True, sys.gettrace()

        def ring(_number: int, frame: FrameType | None) -> None:
            nonlocal n_rings
            if not is_inside:
                return
            n_rings += 1
            if n_rings > 1:  # something catches it: raise again where that something goes on
                _stop_at_the_next_line(frame, self._told)
            raise TimeLimitError(self._told)

        handler = signal.signal(signal.SIGALRM, ring)
        timer = signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)
        try:
            try:
                yield
            finally:
                is_inside = False
        finally:  # of its own: the alarm may ring in the line above
            is_inside = False
            sys.settrace(tracer)
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


def _stop_at_the_next_line(frame: FrameType | None, told: str) -> None:
    """Raise `TimeLimitError` at the next line of a frame or its callers: in the clause that caught the one before."""

    def stop(_frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            raise TimeLimitError(told)
        return stop

    while frame is not None and frame.f_globals.get("__name__") != __name__:
        frame.f_trace = stop
        frame = frame.f_back
    sys.settrace(lambda *_: None)  # nothing in new frames; lines are only traced while there is a tracer
