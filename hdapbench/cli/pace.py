"""How long a run still takes, and who leads so far: from the trials that have ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import fmean, median

from hdapbench.spec import RankingSpec
from hdapbench.trial import DENSE, Result, Status, Trial

OVERDUE = 0.25
"""Share of the time that a trial has taken that it is expected to go on for, once it takes longer than others did."""


class Pace:
    """Time left of a run: for each trial that is left, the median of those before that are most like it.

    Parameters
    ----------
    trials
        All trials of the run, in order.
    labels
        Trial id -> what its row is called.
    n_done
        How many of them had been done before.
    now
        Clock, in seconds.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        labels: dict[str, str],
        *,
        n_done: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trials, self._labels, self._now = trials, labels, now
        self._places = {trial.id: place for place, trial in enumerate(trials)}
        self._n_left = len(trials) - n_done
        self._seconds: dict[tuple[str, ...], list[float]] = {}
        self._latest = 0
        self._since: dict[str, float] = {}
        self._results: list[Result] = []

    def started(self, trial: Trial) -> None:
        """A trial begins; several may run at once."""
        self._latest = max(self._latest, self._places[trial.id])
        self._since[trial.id] = self._now()

    def finished(self, result: Result) -> None:
        """A trial has ended, here or elsewhere."""
        self._n_left -= 1
        since = self._since.pop(result.trial.id, None)
        if since is not None:
            for like in self._alike(result.trial):
                self._seconds.setdefault(like, []).append(self._now() - since)
        self._latest = max(self._latest, self._places[result.trial.id] + 1)
        self._results.append(result)

    def left(self) -> float | None:
        """Seconds that are left, less with every second; None as long as no trial has ended."""
        running = [trial for trial in self._trials if trial.id in self._since]
        over = {*self._since, *(result.trial.id for result in self._results)}
        ahead = [trial for trial in self._trials[self._latest :] if trial.id not in over]
        ahead = ahead[: max(self._n_left - len(running), 0)]
        if not running and not ahead:
            return 0.0
        expected = [self._expected(trial) for trial in (*running, *ahead)]
        known = [seconds for seconds in expected if seconds is not None]
        if not known:
            return None
        each = fmean(known)
        whole = [each if seconds is None else seconds for seconds in expected]
        spent = [self._now() - self._since[trial.id] for trial in running]
        rest = [max(one - passed, OVERDUE * passed) for one, passed in zip(whole, spent, strict=False)]
        # Trials that the order says are ahead and that were done before are none: n_left counts.
        later = sum(whole[len(running) :]) + each * (self._n_left - len(running) - len(ahead))
        return max([later / max(len(running), 1) + fmean(rest or [0.0]), *rest])

    def leaders(self, trial: Trial, *, n_shown: int = 3) -> list[str]:
        """Fastest rows so far at a trial's target, of those within a point of the most accurate one."""
        rows: dict[str, list[tuple[float, float]]] = {}
        for result in self._results:
            other, metrics = result.trial, result.metrics
            is_here = (other.fleet_hash, other.target) == (trial.fleet_hash, trial.target) and other.method != DENSE
            if is_here and metrics is not None and result.status is Status.COMPLETE:
                rows.setdefault(self._labels[other.id], []).append((metrics.latency_ms, metrics.accuracy))
        means = {label: (fmean(ms for ms, _ in of), fmean(share for _, share in of)) for label, of in rows.items()}
        within = (RankingSpec().accuracy_within or 100.0) / 100
        least = max((accuracy for _, accuracy in means.values()), default=0.0) - within
        kept = sorted((ms, label, accuracy) for label, (ms, accuracy) in means.items() if accuracy >= least)
        return [f"{label} {ms:.4g} ms {accuracy:.1%}" for ms, label, accuracy in kept[:n_shown]]

    def _expected(self, trial: Trial) -> float | None:
        alike = next((self._seconds[like] for like in self._alike(trial) if like in self._seconds), None)
        return None if alike is None else median(alike)

    def _alike(self, trial: Trial) -> list[tuple[str, ...]]:
        """Kinds of trials that a trial is of, the closest first; the dense model is like no other."""
        label, target = self._labels[trial.id], str(trial.target)
        return [(label, target), (label,), *([] if trial.method == DENSE else [()])]
