"""Searches of one stage: for the fastest plan at a level of importance, and active rounds around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.errors import TargetUnreachableError
from hdapbench.method.decisions import MeasuredOptimum, SearchAccount
from hdapbench.search import FALLBACK, SearchResult, SearchSpace, minimise, solve_exact, why_not_exact
from hdapbench.surrogate.active import ActiveRounds, Round
from hdapbench.surrogate.base import Surrogate
from hdapbench.surrogate.design import neighbours

from .measuring import Measurer, objective_of
from .parameters import Guard, Parameters
from .stage import Stage

ROUGH_TOLERANCE = 5e-3
"""Relative gap at which exact searches for optima of refits may stop."""


@dataclass(frozen=True)
class Searcher:
    """Finds fast plans of one stage.

    Attributes
    ----------
    parameters
        Of the method.
    stage
        What is searched.
    measured
        Plans measured so far, and their surrogate.
    accounts
        Widths found -> what is told of the search that found them.
    """

    parameters: Parameters
    stage: Stage
    measured: Measurer
    accounts: dict[tuple[int, ...], SearchAccount] = field(default_factory=dict)

    def space(self, lost: float | None, guard: Guard | None = None) -> SearchSpace:
        """Constraints of a search.

        Parameters
        ----------
        lost
            Importance that may be lost, relative to what the guard's reference loses; None: any.
        guard
            The method's by default.
        """
        parameters, stage = self.parameters, self.stage
        guard = guard or parameters.guard
        guarded = lost is not None and guard != "none"
        least = 0.0
        if guarded and lost is not None:
            reference = stage.ranking if guard == "ranking" else stage.uniform
            whole = float(stage.importance(stage.widest[None])[0])
            least = whole - lost * (whole - float(stage.importance(reference[None])[0]))
        flops = parameters.goal == "flops"
        floor = np.maximum(np.floor(parameters.least_width_share * stage.uniform), 1).astype(np.int64)
        return SearchSpace(
            cost=stage.cost,
            target_flops=stage.target_flops,
            objective=self._flops if flops or self.measured.too_few else objective_of(self.measured.surrogate),
            least_flops=0 if flops else int(parameters.least_flops_share * stage.target_flops),
            retained=stage.importance if guarded else None,
            least_retained=least,
            least_widths=floor if parameters.least_width_share else None,
            round_to=parameters.round_to,
        )

    def candidates(self) -> list[Integers]:
        """The fastest plan at each level of importance that can be had, narrower ones first, without repeats."""
        found: dict[tuple[int, ...], None] = {}
        for level in self.levels:
            space = self.space(level)
            try:
                result = self.search(space)
            except TargetUnreachableError as error:
                self.stage.problem.progress(f"no plan loses {level:g} of the reference's importance: {error}")
                continue
            known = self.measured.fastest(space, 1) if self.measured.measured_any else []
            others = list(result.runners_up) if self.parameters.guard == "none" else []
            for widths in [result.widths, *known, *others]:
                found[tuple(widths.tolist())] = None
        return [np.array(widths, dtype=np.int64) for widths in found]

    def between(self, candidates: list[Integers]) -> list[Integers]:
        """Plans on the way from uniform pruning to candidates, and to the fastest that loses no more than it does."""
        found = [self.stage.between(widths, 0.5) for widths in candidates]
        if self.parameters.guard == "ranking":
            try:
                fastest = self.search(self.space(1.0, "uniform")).widths
            except TargetUnreachableError:
                return found
            found += [self.stage.between(fastest, share) for share in (0.125, 0.25, 0.5, 1.0)]
        return found

    @property
    def levels(self) -> tuple[float, ...]:
        """Importance that may be lost, relative to the reference's, the most first."""
        return (1.0,) if self.parameters.guard == "none" else tuple(sorted(self.parameters.guard_levels, reverse=True))

    def measure_actively(self) -> None:
        """Measure the optimum and plans around it, refit, and search again, until prediction and measurement agree."""
        problem = self.stage.problem
        middle = min(self.levels, key=lambda level: abs(level - 1.0))
        space = self.space(middle)

        def search(surrogate: Surrogate) -> Integers:
            found = self.search(replace(space, objective=objective_of(surrogate)))
            return np.concatenate([found.widths[None], found.runners_up])

        def search_roughly(surrogate: Surrogate) -> Integers:
            """Optima of refits: the least of a surrogate that is unsure need not be found to the last digit."""
            rough = replace(space, objective=objective_of(surrogate))
            if self.parameters.searcher == "exact" and why_not_exact(rough) is None:
                return solve_exact(rough, start=self._start, tolerance=ROUGH_TOLERANCE).widths[None]
            return self._minimise(rough).widths[None]

        def near(widths: Integers, n_plans: int, rng: np.random.Generator) -> Integers:
            return neighbours(self.stage.cost, widths, n_plans, rng=rng, limit=self.stage.target_flops)

        self.measured.rounds = rounds = list[MeasuredOptimum]()

        def note(latest: Round) -> None:
            rounds.append(MeasuredOptimum(predicted_ms=latest.predicted_ms, measured_ms=latest.measured_ms))
            problem.remember("rounds", rounds)
            problem.progress(f"active round {len(rounds)}: {latest.error:+.1%} off at the optimum")

        if not self.parameters.active_plans:
            surrogate, n_measured = self.measured.surrogate, len(self.measured.plans)
            optimum = search(surrogate)[:1]
            predicted, latency = surrogate.predict_average(optimum), self.measured.keep(optimum) @ surrogate.weights
            note(Round(optimum[0], n_measured, float(predicted[0]), float(latency[0])))
            return
        active = ActiveRounds(
            surrogate_name=self.parameters.surrogate,
            most_plans=self.parameters.active_plans,
            plans_per_round=self.parameters.plans_per_round,
            tolerance=self.parameters.tolerance,
            seed=problem.training.seed,
        )
        active.run(
            self.measured.plans,
            search=search,
            search_roughly=search_roughly,
            measure=self.measured.keep,
            neighbours=near,
            on_round=note,
        )

    def search(self, space: SearchSpace) -> SearchResult:
        """The method's search over a space, remembered.

        Raises
        ------
        TargetUnreachableError
            When no plan satisfied the constraints.
        """
        parameters, problem = self.parameters, self.stage.problem
        found = self._minimise(space)
        algorithm = FALLBACK if found.reason else parameters.searcher
        gap = "" if found.gap is None else f", within {found.gap:.2%} of optimal"
        problem.progress(f"{algorithm} search: {found.n_evaluations:,} plans, predicted {found.value:.4g}{gap}")
        account = SearchAccount(
            algorithm=algorithm,
            n_evaluations=found.n_evaluations,
            unit="FLOPs" if parameters.goal == "flops" else "ms",
            value=found.value,
            bound=found.bound,
            gap=found.gap,
            levels=found.levels,
            trace=found.history,
            reason=f"not exact: {found.reason}" if found.reason else "",
        )
        self.accounts[tuple(found.widths.tolist())] = account
        problem.remember("search", account)
        return found

    def _minimise(self, space: SearchSpace) -> SearchResult:
        parameters, rng = self.parameters, self.stage.problem.rng
        return minimise(
            space, start=self._start, n_evaluations=parameters.evaluations, rng=rng, algorithm=parameters.searcher
        )

    @property
    def _start(self) -> Integers:
        """Plans to begin with, shape (n_plans, n_groups)."""
        return np.stack([self.stage.uniform, self.stage.ranking])

    @property
    def _flops(self) -> Callable[[Integers], Floats]:
        """FLOPs of plans as an objective: what no device has to be asked for."""
        return lambda widths: self.stage.problem.cost.flops(widths).astype(np.float64)
