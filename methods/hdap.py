"""HDAP: homogeneous-device aware pruning (arXiv 2501.15240), in our form.

Devices are clustered; plans are measured on each cluster's representative; a surrogate per cluster predicts any plan;
a search finds the widths of least average clustered latency under the exact FLOPs target. What the optimum really
takes is measured, the surrogates are refitted, and the search runs again; the best plans are compared by accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hdapbench.cost.target import fill, largest_share, widths_at_share
from hdapbench.errors import BudgetExceededError, TargetUnreachableError
from hdapbench.latency.design import training_plans
from hdapbench.latency.kinds import Kind, fit_surrogate
from hdapbench.latency.measured import MeasuredPlans
from hdapbench.latency.report_card import ReportCard, report_card
from hdapbench.latency.surrogate import Surrogate
from hdapbench.method import Method, Plan, Problem
from hdapbench.search import SearchResult, SearchSpace, minimise

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Hdap(Method):
    """Search the widths of least average clustered latency, guided by surrogates of measured representatives.

    A plan must keep ``importance_guard`` of the importance that uniform pruning keeps, and in each group
    ``least_width_share`` of uniform's width. Of the ``shortlist`` plans of least measured latency, the fastest wins
    whose accuracy on the search split, after ``shortlist_epochs`` of fine-tuning, is within ``accuracy_tolerance`` (or
    one standard error, where that is more) of the best of them and of uniform pruning. When none is, a tenth less
    importance may be lost, the least width moves halfway to uniform's, and the search is repeated, ``guard_raises``
    times; then uniform pruning is the answer.
    """

    name = "hdap"
    n_plans: int = Field(default=80, ge=8, description="Plans measured before the first search.")
    surrogate: Kind = Field(default="nnls", description="How latency is learnt; gbrt-on-ratios is the public recipe.")
    searcher: Literal["genetic", "ncs", "random"] = "genetic"
    evaluations: int = Field(default=10_000, ge=100, description="Predictions per search.")
    active_rounds: int = Field(
        default=3, ge=0, description="Rounds of measuring the optimum, refitting, searching again."
    )
    plans_per_round: int = Field(default=8, ge=1, description="Plans measured per round.")
    criterion: Literal["sqrt_taylor", "taylor", "l1", "l2", "bn_scale"] = "sqrt_taylor"
    channel_criterion: Literal["l1", "l2", "taylor", "sqrt_taylor", "bn_scale"] = Field(
        default="l1", description="Which channels of a group stay; uniform pruning's by default."
    )
    importance_guard: float = Field(default=1.0, ge=0.0, description="Least importance kept, relative to uniform's.")
    least_width_share: float = Field(default=0.6, ge=0.0, le=1.0, description="Least width of a group, of uniform's.")
    guard_raises: int = Field(default=2, ge=0, description="Times both limits are tightened when accuracy suffers.")
    least_flops_share: float = Field(default=0.97, ge=0.0, le=1.0, description="Least share of the target to use.")
    shortlist: int = Field(default=2, ge=1, description="Plans whose accuracy is compared; 1 trusts the guard.")
    shortlist_epochs: float | None = Field(
        default=None, ge=0.0, description="Fine-tuning before that comparison; null takes as long as the final one."
    )
    accuracy_tolerance: float = Field(default=0.005, ge=0.0, description="Accuracy that latency may cost there.")

    def compress(self, problem: Problem) -> Plan:
        """Plan of least measured average clustered latency among the accurate ones."""
        table = _ImportanceTable.of(problem, problem.importance(self.criterion))
        scores = problem.importance(self.channel_criterion)
        uniform = fill(
            problem.cost,
            widths_at_share(problem.cost, largest_share(problem.cost, problem.target_flops)),
            problem.target_flops,
        )
        measured = _Measured(problem, self.surrogate)
        problem.progress(f"measuring {self.n_plans} plans on {problem.n_clusters} representatives")
        measured.add(self._training_plans(problem, uniform))
        epochs = problem.fine_tune_epochs if self.shortlist_epochs is None else self.shortlist_epochs
        judge = _Judge(problem, scores, uniform, epochs=epochs, tolerance=self.accuracy_tolerance)
        guard = self.importance_guard * float(table.retained(uniform[None])[0])
        least_share = self.least_width_share
        for _ in range(self.guard_raises + 1):
            space = SearchSpace(
                cost=problem.cost,
                target_flops=problem.target_flops,
                objective=measured.predict,
                least_flops=int(self.least_flops_share * problem.target_flops),
                retained=table.retained,
                least_retained=guard,
                least_widths=np.maximum(np.floor(least_share * uniform), 1).astype(np.int64),
            )
            try:
                self._search_actively(problem, space, measured, uniform)
                fastest = _faster_than(problem, uniform, measured.fastest(space, 4 * self.shortlist))
                if self.shortlist == 1 and fastest:
                    return problem.plan_by_widths(fastest[0], scores)
                chosen = judge.fastest_accurate(fastest[: self.shortlist]) if fastest else None
            except (BudgetExceededError, TargetUnreachableError) as error:
                problem.progress(f"the search ends early: {error}")
                break
            if chosen is not None:
                return chosen
            guard, least_share = 1 - 0.9 * (1 - guard), (1 + least_share) / 2
        fallback = [] if judge.compared else measured.fastest(space, 1)
        return problem.plan_by_widths(fallback[0] if fallback else uniform, scores)

    def _search_actively(self, problem: Problem, space: SearchSpace, measured: _Measured, uniform: Integers) -> None:
        """Search, measure the optimum and its rivals, refit, and search again."""
        found = self._search(problem, space, uniform[None])
        for number in range(self.active_rounds):
            fresh = np.concatenate([found.widths[None], found.runners_up])[: self.plans_per_round]
            measured.add(fresh)
            error = measured.predict(found.widths[None])[0] / measured.latency_of(found.widths) - 1.0
            problem.progress(
                f"active round {number + 1}: the refitted surrogate is {error:+.1%} off at the last optimum"
            )
            found = self._search(problem, space, np.concatenate([fresh, uniform[None]]))
        measured.add(found.widths[None])

    def _training_plans(self, problem: Problem, uniform: Integers) -> Integers:
        """Uniform pruning, the dense model, and plans spread widely under the target, shape (n_plans, n_groups)."""
        plans = training_plans(problem.cost, problem.target_flops, self.n_plans - 2, seed=problem.seed)
        return np.stack([uniform, problem.sizes, *plans])

    def _search(self, problem: Problem, space: SearchSpace, start: Integers) -> SearchResult:
        found = minimise(space, start=start, n_evaluations=self.evaluations, rng=problem.rng, algorithm=self.searcher)
        problem.progress(f"searched {found.n_evaluations:,} plans, predicted {found.value:.4g} ms")
        return found


def _faster_than(problem: Problem, uniform: Integers, candidates: list[Integers]) -> list[Integers]:
    """Candidates that beat uniform pruning when all are measured in one session, fastest first.

    Measurements of different sessions differ by the devices' drift: the least of many would be the luckiest.
    """
    if not candidates:
        return []
    latency = problem.average(problem.latency(np.stack([uniform, *candidates])))
    order = np.argsort(latency[1:], kind="stable")
    return [candidates[number] for number in order if latency[1 + number] < latency[0]]


class _Judge:
    """Compares accuracies of fast plans with each other and with uniform pruning, on the search split."""

    def __init__(
        self, problem: Problem, scores: dict[str, Floats], uniform: Integers, *, epochs: float, tolerance: float
    ) -> None:
        self._problem, self._scores, self._uniform = problem, scores, uniform
        self._epochs, self._tolerance = epochs, tolerance
        self._known: dict[tuple[int, ...], float] = {}

    @property
    def compared(self) -> bool:
        """Whether any accuracy was evaluated."""
        return bool(self._known)

    def fastest_accurate(self, shortlist: list[Integers]) -> Plan | None:
        """The first of plans, sorted by latency, whose accuracy is near the best; None when uniform beats them all."""
        plans = [self._problem.plan_by_widths(widths, self._scores) for widths in shortlist]
        accuracy = [self._accuracy(widths, plan) for widths, plan in zip(shortlist, plans, strict=True)]
        rival = self._accuracy(self._uniform, self._problem.plan_by_widths(self._uniform, self._scores))
        self._problem.progress(f"accuracies: {', '.join(f'{a:.2%}' for a in accuracy)}; uniform {rival:.2%}")
        best = max([rival, *accuracy])
        # Differences below a standard error of the search split are no differences.
        least = best - max(self._tolerance, (best * (1 - best) / self._problem.n_search_images) ** 0.5)
        return next((plan for plan, value in zip(plans, accuracy, strict=True) if value >= least), None)

    def _accuracy(self, widths: Integers, plan: Plan) -> float:
        key = tuple(widths.tolist())
        if key not in self._known:
            self._known[key] = self._problem.accuracy(plan, self._epochs)
        return self._known[key]


class _Measured:
    """Plans measured so far, and one surrogate per cluster fitted to them."""

    def __init__(self, problem: Problem, kind: Kind) -> None:
        self._problem, self._kind = problem, kind
        self._plans = MeasuredPlans(
            problem.kernels, problem.sizes[None][:0], np.zeros((0, problem.n_clusters)), problem.cluster_weights
        )
        self._surrogate: Surrogate | None = None
        self.card: ReportCard | None = None

    @property
    def widths(self) -> Integers:
        """Widths of the measured plans, shape (n_plans, n_groups)."""
        return self._plans.widths

    def add(self, widths: Integers) -> None:
        """Measure plans that are new, and refit."""
        known = {tuple(plan) for plan in self.widths.tolist()}
        wanted = dict.fromkeys(map(tuple, widths.tolist()))  # in the given order: a short budget cuts the tail
        fresh = np.array([plan for plan in wanted if plan not in known], dtype=np.int64)
        if not len(fresh):
            return
        affordable = int(min(self._problem.budget.remaining("device_queries") / self._problem.n_clusters, len(fresh)))
        if affordable < min(len(fresh), 8):
            raise BudgetExceededError(f"{affordable} plans can still be measured, {len(fresh)} are needed")
        fresh = fresh[:affordable]
        self._plans = self._plans.joined(fresh, self._problem.latency(fresh))
        self._surrogate = fit_surrogate(self._kind, self._plans, seed=self._problem.seed)
        self.card = report_card(self._kind, self._plans.averaged(), seed=self._problem.seed, sizes=())
        self._problem.progress(f"surrogate, cross-validated: {self.card}")

    def predict(self, widths: Integers) -> Floats:
        """Predicted average clustered latency in ms, shape (n_plans,)."""
        if self._surrogate is None:
            raise BudgetExceededError("no plan was measured")
        return self._surrogate.predict_average(widths)

    def latency_of(self, widths: Integers) -> float:
        """Measured average clustered latency in ms of a plan that was added."""
        row = int(np.flatnonzero((self.widths == widths).all(axis=1))[0])
        return float(self._plans.average_ms[row])

    def fastest(self, space: SearchSpace, n_plans: int) -> list[Integers]:
        """Widths of the measured plans of least latency that satisfy all constraints, fastest first."""
        allowed = self.widths[space.violation(self.widths) <= 0]
        order = np.argsort([self.latency_of(widths) for widths in allowed], kind="stable")
        return list(allowed[order][:n_plans])


@dataclass(frozen=True)
class _ImportanceTable:
    """Importance that a group keeps at every width, as a share of the model's total: additive over groups.

    What a group loses counts with its square: half of one group costs more than a quarter of two. With plain sums the
    search starved single groups: after a short fine-tune of ResNet56 on CIFAR-10 at 0.5x, one seed, plans had 63 %
    accuracy against 74 % of uniform pruning, with squares 69 %, at 0.93 of its latency.
    """

    kept: tuple[Floats, ...]  # per group, shape (n_channels + 1,)

    @classmethod
    def of(cls, problem: Problem, scores: dict[str, Floats]) -> _ImportanceTable:
        total = sum(float(scores[name].sum()) for name in problem.groups)
        tables = []
        for name in problem.groups:
            mass = float(scores[name].sum())
            kept = np.concatenate([[0.0], np.cumsum(np.sort(scores[name])[::-1]) / mass])
            tables.append(mass / total * (1.0 - (1.0 - kept) ** 2))
        return cls(tuple(tables))

    def retained(self, widths: Integers) -> Floats:
        """Share of the importance that plans keep, shape (n_plans,)."""
        return np.asarray(sum(table[column] for table, column in zip(self.kept, widths.T, strict=True)))
