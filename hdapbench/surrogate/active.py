"""Active rounds: measure what the search found and plans around it, refit, search again, until both agree.

A surrogate is fitted where plans were measured, and a search goes where the surrogate is lowest: often where it is
wrong. Measuring there and refitting is what makes a prediction at an optimum trustworthy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.surrogate.base import Surrogate
from hdapbench.surrogate.fit import SurrogateName, fit_surrogate
from hdapbench.surrogate.linear import NonNegativeSurrogate
from hdapbench.surrogate.measured import MeasuredPlans

Search = Callable[[Surrogate], Integers]
"""Surrogate -> widths of plans that satisfy all constraints, best first, shape (n_found, n_groups), one at least."""
Measure = Callable[[Integers], Floats]
"""Widths of shape (n_plans, n_groups) -> latency in ms, shape (n_plans, n_clusters)."""
Neighbours = Callable[[Integers, int, np.random.Generator], Integers]
"""Widths of shape (n_groups,) and a number -> widths of so many plans near it."""


@dataclass(frozen=True)
class Round:
    """One optimum: predicted by a surrogate that had not seen it, then measured.

    Attributes
    ----------
    widths
        The plan, shape (n_groups,).
    n_measured
        Measured plans that the surrogate was fitted to.
    predicted_ms, measured_ms
        Average clustered latency.
    """

    widths: Integers
    n_measured: int
    predicted_ms: float
    measured_ms: float

    @property
    def error(self) -> float:
        """Predicted over measured, minus one."""
        return self.predicted_ms / self.measured_ms - 1.0


@dataclass(frozen=True)
class ActiveResult:
    """Where active rounds ended.

    Attributes
    ----------
    surrogate
        Fitted to all measured plans.
    measured
        All plans measured, those at the start first.
    rounds
        One entry per optimum measured.
    widths
        The plan to take: of all plans that searches found and that were measured, the one of least predicted average
        under the last surrogate, which has seen it, shape (n_groups,).
    agreed
        Whether prediction and measurement agreed in the end; False: the plans to measure were used up.
    """

    surrogate: Surrogate
    measured: MeasuredPlans
    rounds: tuple[Round, ...]
    widths: Integers
    agreed: bool


@dataclass(frozen=True)
class ActiveRounds:
    """How active rounds go.

    Attributes
    ----------
    surrogate_name
        Which surrogate is fitted.
    most_plans
        Plans that may be measured in all rounds together.
    plans_per_round
        Plans measured per round: the optimum, optima of refits, neighbours.
    rivals
        How many of these are optima of surrogates that were refitted to plans drawn with repetition (bootstrap): they
        differ where the surrogate is unsure.
    tolerance
        Relative difference of predicted and measured latency of an optimum up to which the two agree.
    agreeing_rounds
        Rounds end after this many in a row that agree.
    seed
        Seed of refits and neighbours.
    """

    surrogate_name: SurrogateName = "nnls"
    most_plans: int = 48
    plans_per_round: int = 12
    rivals: int = 5
    tolerance: float = 0.02
    agreeing_rounds: int = 2
    seed: int = 0

    def run(
        self,
        measured: MeasuredPlans,
        *,
        search: Search,
        measure: Measure,
        neighbours: Neighbours,
        search_roughly: Search | None = None,
        on_round: Callable[[Round], None] | None = None,
    ) -> ActiveResult:
        """Result of rounds that begin with plans that are measured already.

        Parameters
        ----------
        search
            Called with the surrogate.
        search_roughly
            Called with those of refits, whose optima need not be exact; None: ``search``.
        measure
            Called once per round; may raise to end everything, as when a budget is spent.
        neighbours
            Plans around the optimum; they need not satisfy constraints.
        on_round
            Receives each round when it is measured.

        Raises
        ------
        SurrogateError
            When there are too few plans to begin with.
        """
        state = _State(self, measured)
        while state.n_left > 0 and not state.agreed:
            found = np.atleast_2d(search(state.surrogate))
            plans = state.plans_of_round(found, search_roughly or search, neighbours)
            latency = measure(plans)
            latest = state.take(found[0], plans, latency)
            if on_round is not None:
                on_round(latest)
        return state.result(search)


@dataclass
class _State:
    """What is known in the middle of active rounds."""

    settings: ActiveRounds
    measured: MeasuredPlans
    rounds: list[Round] = field(default_factory=list)
    candidates: list[tuple[int, ...]] = field(default_factory=list)  # measured plans that searches found

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.settings.seed, 0xAC7])
        self.n_start = len(self.measured)
        self.refit()

    @property
    def n_left(self) -> int:
        return self.settings.most_plans - (len(self.measured) - self.n_start)

    @property
    def agreed(self) -> bool:
        latest = self.rounds[-self.settings.agreeing_rounds :]
        enough = len(latest) == self.settings.agreeing_rounds
        return enough and all(abs(entry.error) <= self.settings.tolerance for entry in latest)

    def refit(self) -> None:
        self.surrogate = fit_surrogate(self.settings.surrogate_name, self.measured, seed=self.settings.seed)
        self._average = self.measured.averaged()

    def plans_of_round(self, found: Integers, search: Search, neighbours: Neighbours) -> Integers:
        """The optimum first, whether measured before or not; then rivals and neighbours that are new."""
        n = max(1, min(self.settings.plans_per_round, self.n_left - 1))  # the last plan is for the last optimum
        plans = [tuple(found[0].tolist())]
        known = {tuple(plan) for plan in self.measured.widths.tolist()} | set(plans)

        def add(more: Integers) -> None:
            for plan in map(tuple, more.tolist()):
                if len(plans) < n and plan not in known:
                    known.add(plan)
                    plans.append(plan)

        for _ in range(min(self.settings.rivals, n - 1)):
            rival = np.atleast_2d(search(self._resampled()))[:1]
            add(rival)
            self.candidates += [plan for plan in map(tuple, rival.tolist()) if plan in known]
        for _ in range(8):  # narrow models have few neighbours: those that are known already do not count
            if len(plans) < n:
                add(neighbours(found[0], n - len(plans), self.rng))
        self.candidates.append(plans[0])
        return np.array(plans, dtype=np.int64)

    def _resampled(self) -> Surrogate:
        """The surrogate of the average, fitted to plans drawn with repetition."""
        drawn = self._average.subset(self.rng.integers(len(self._average), size=len(self._average)))
        if isinstance(self.surrogate, NonNegativeSurrogate):
            return NonNegativeSurrogate.fit_at(drawn, self.surrogate.strength)
        return fit_surrogate(self.settings.surrogate_name, drawn, seed=self.settings.seed)

    def take(self, optimum: Integers, plans: Integers, latency_ms: Floats) -> Round:
        """Note a round's measurements and refit."""
        predicted = float(self.surrogate.predict_average(optimum)[0])
        measured = float(np.asarray(latency_ms)[0] @ self.measured.weights)
        latest = Round(optimum, len(self.measured), predicted, measured)
        self.rounds.append(latest)
        self.measured = self.measured.joined(plans, latency_ms)
        self.refit()
        return latest

    def result(self, search: Search) -> ActiveResult:
        """The end: the measured candidate that the last surrogate prefers, or, without a round, what it finds."""
        measured = {tuple(plan) for plan in self.measured.widths.tolist()}
        candidates = dict.fromkeys(plan for plan in self.candidates if plan in measured)
        plans = np.array(list(candidates), dtype=np.int64) if candidates else np.atleast_2d(search(self.surrogate))[:1]
        best = plans[int(np.argmin(self.surrogate.predict_average(plans)))]
        return ActiveResult(self.surrogate, self.measured, tuple(self.rounds), best, self.agreed)
