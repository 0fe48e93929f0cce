"""The method: measure, fit, search, measure the optimum, and compare the best plans by accuracy.

Devices are clustered; plans are measured on each cluster's representatives; a surrogate predicts any plan; a search
finds the widths of least average clustered latency under the exact FLOPs target. What the optimum really takes is
measured, the surrogate is refitted, and the search runs again; the best plans are compared by accuracy.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from hdapbench.cost.target import fill, largest_share, widths_at_share
from hdapbench.errors import BudgetExceededError, TargetUnreachableError
from hdapbench.latency.active import ActiveRounds, Round
from hdapbench.latency.design import neighbours, training_plans
from hdapbench.latency.kinds import Kind
from hdapbench.latency.surrogate import Surrogate
from hdapbench.method import Method, Plan, Problem
from hdapbench.search import FALLBACK, Algorithm, SearchResult, SearchSpace, minimise
from methods.hdap.importance import importance_table
from methods.hdap.judging import Judge
from methods.hdap.measuring import Devices, Measurer, objective_of
from methods.hdap.presets import PRESETS, Preset

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Hdap(Method):
    """Search the widths of least average clustered latency, guided by a surrogate of measured representatives.

    A plan must keep ``importance_guard`` of the importance that uniform pruning keeps, and in each group
    ``least_width_share`` of uniform's width. Of the ``shortlist`` plans of least measured latency, the fastest wins
    whose accuracy on the search split, after ``shortlist_epochs`` of fine-tuning, is within ``accuracy_tolerance`` (or
    one standard error, where that is more) of the best of them and of uniform pruning. When none is, a tenth less
    importance may be lost, the least width moves halfway to uniform's, and the search is repeated, ``guard_raises``
    times; then uniform pruning is the answer.

    ``preset: paper`` is our reading of the public descriptions; what is given beside it is changed. The ablations are
    parameters: ``devices: one_cluster`` or ``nominal``, ``goal: flops``, another ``searcher``, no ``active_plans``.

    Source: HDAP, homogeneous-device aware pruning, arXiv 2501.15240, in our form.
    Needs: device queries for a fingerprint and, on each cluster, for ``n_plans``, ``active_plans`` and a few more;
    gradients; evaluations and training for the shortlist, as far as the budget goes.
    Never sees: nothing is hidden.
    """

    name = "hdap"
    preset: Preset = Field(default="default", description="paper: the public recipe.")
    n_plans: int = Field(default=80, ge=8, description="Plans measured before the first search.")
    surrogate: Kind = Field(default="nnls", description="gbrt-on-ratios is the public recipe.")
    searcher: Algorithm = Field(
        default="exact",
        description="exact, genetic, cma-es, ncs, greedy or random; exact falls back to genetic, and says so, where "
        "the surrogate is no sum over kernels or the layer graph is too wide.",
    )
    evaluations: int = Field(default=10_000, ge=10, description="Predictions per search, where it is not exact.")
    active_plans: int = Field(
        default=48, ge=0, description="Plans measured in active rounds: the optimum and plans around it, then refit."
    )
    plans_per_round: int = Field(default=12, ge=1, description="Plans measured per round.")
    tolerance: float = Field(
        default=0.02, ge=0.0, description="Rounds end when prediction and measurement differ by no more, twice."
    )
    devices: Devices = Field(default="fleet", description="Whose latency counts: fleet, one_cluster or nominal.")
    cluster_weights: Literal["share", "equal"] = Field(default="share", description="How clusters count.")
    goal: Literal["latency", "flops"] = Field(default="latency", description="flops: what no device is asked for.")
    criterion: Literal["sqrt_taylor", "taylor", "l1", "l2", "bn_scale"] = Field(
        default="sqrt_taylor", description="Importance that the guard counts."
    )
    channel_criterion: Literal["l1", "l2", "taylor", "sqrt_taylor", "bn_scale"] = Field(
        default="l1", description="Which channels of a group stay; uniform pruning's by default."
    )
    importance_guard: float = Field(default=1.0, ge=0.0, description="Least importance kept, relative to uniform's.")
    least_width_share: float = Field(default=0.6, ge=0.0, le=1.0, description="Least width of a group, of uniform's.")
    guard_raises: int = Field(default=2, ge=0, description="Times both limits are tightened when accuracy suffers.")
    least_flops_share: float = Field(
        default=0.97, ge=0.0, le=1.0, description="Least share of the target to use; 0: only the target binds."
    )
    round_to: int = Field(default=1, ge=1, description="Widths are multiples of this, or dense.")
    shortlist: int = Field(default=2, ge=1, description="Plans whose accuracy is compared; 1 trusts the guard.")
    shortlist_epochs: float | None = Field(
        default=None, ge=0.0, description="Fine-tuning before that comparison; null takes as long as the final one."
    )
    accuracy_tolerance: float = Field(default=0.005, ge=0.0, description="Accuracy that latency may cost there.")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        """Parameters of the preset, where none were given."""
        if isinstance(values, dict) and values.get("preset") in PRESETS:
            return PRESETS[values["preset"]] | values
        return values

    def skip(self, problem: Problem) -> str | None:  # noqa: ARG002 - the same for every problem
        """Reason when the searcher's package is not installed."""
        if self.searcher == "cma-es" and importlib.util.find_spec("cma") is None:
            return "searcher cma-es needs the package cma; install it with: pip install 'hdapbench[cma]'"
        return None

    def compress(self, problem: Problem) -> Plan:
        """Plan of least measured average clustered latency among the accurate ones."""
        scores = problem.importance(self.channel_criterion)
        uniform = _uniform(problem)
        names = list(problem.groups)
        problem.remember("uniform_widths", dict(zip(names, uniform.tolist(), strict=True)))
        problem.remember("dense_widths", dict(zip(names, problem.sizes.tolist(), strict=True)))
        measured = Measurer(
            problem, kind=self.surrogate, devices=self.devices, equal_weights=self.cluster_weights == "equal"
        )
        if self.goal == "latency":
            problem.progress(f"measuring {self.n_plans} plans on {measured.n_columns} clusters")
            spread = training_plans(
                problem.cost, problem.target_flops, self.n_plans - 2, seed=problem.seed, round_to=self.round_to
            )
            measured.add(np.concatenate([np.stack([uniform, problem.sizes]), spread]))
        epochs = problem.fine_tune_epochs if self.shortlist_epochs is None else self.shortlist_epochs
        judge = Judge(problem, scores, uniform, epochs=epochs, tolerance=self.accuracy_tolerance)
        space = self._space(problem, measured, uniform)
        why = "uniform pruning: no plan that was looked for is faster and as accurate"
        chosen: Plan | None = None
        for raised in range(self.guard_raises + 1):
            try:
                fast = self._fast_plans(problem, space, measured, uniform)
                if self.shortlist == 1 and fast:
                    chosen = problem.plan_by_widths(fast[0], scores)
                else:
                    chosen = judge.fastest_accurate(fast[: self.shortlist]) if fast else None
            except (BudgetExceededError, TargetUnreachableError) as error:
                problem.progress(f"the search ends early: {error}")
                why = f"the search ended early: {error}"
                if not judge.compared and self.goal == "latency" and (known := measured.fastest(space, 1)):
                    chosen = problem.plan_by_widths(known[0], scores)
                break
            if chosen is not None:
                why = f"the fastest accurate plan, after raising the guards {raised} times"
                break
            space = _tightened(space, uniform)
        problem.remember("accuracies", judge.accuracies)
        problem.remember("why", why)
        return problem.plan_by_widths(uniform, scores) if chosen is None else chosen

    def _space(self, problem: Problem, measured: Measurer, uniform: Integers) -> SearchSpace:
        """Constraints of the first search."""
        guarded = self.importance_guard > 0
        table = importance_table(list(problem.groups), problem.importance(self.criterion)) if guarded else None
        least = np.maximum(np.floor(self.least_width_share * uniform), 1).astype(np.int64)
        return SearchSpace(
            cost=problem.cost,
            target_flops=problem.target_flops,
            objective=_flops_of(problem) if self.goal == "flops" else objective_of(measured.surrogate),
            least_flops=0 if self.goal == "flops" else int(self.least_flops_share * problem.target_flops),
            retained=table,
            least_retained=0.0 if table is None else self.importance_guard * float(table(uniform[None])[0]),
            least_widths=least if self.least_width_share else None,
            round_to=self.round_to,
        )

    def _fast_plans(
        self, problem: Problem, space: SearchSpace, measured: Measurer, uniform: Integers
    ) -> list[Integers]:
        """Plans that beat uniform pruning, fastest first: measured beside it, or by FLOPs alone."""
        if self.goal == "flops":
            found = self._search(problem, space, uniform[None])
            return [found.widths, *found.runners_up]
        self._search_actively(problem, space, measured, uniform)
        return _faster_than(measured, uniform, measured.fastest(space, 4 * self.shortlist))

    def _search_actively(self, problem: Problem, space: SearchSpace, measured: Measurer, uniform: Integers) -> None:
        """Measure the optimum and plans around it, refit, and search again, until prediction and measurement agree."""

        def search(surrogate: Surrogate) -> Integers:
            found = self._search(problem, replace(space, objective=objective_of(surrogate)), uniform[None])
            return np.concatenate([found.widths[None], found.runners_up])

        def near(widths: Integers, n_plans: int, rng: np.random.Generator) -> Integers:
            return neighbours(problem.cost, widths, n_plans, rng=rng, limit=problem.target_flops)

        rounds: list[dict[str, float]] = []

        def note(latest: Round) -> None:
            rounds.append({"predicted_ms": latest.predicted_ms, "measured_ms": latest.measured_ms})
            problem.remember("rounds", rounds)
            problem.progress(f"active round {len(rounds)}: {latest.error:+.1%} off at the optimum")

        if not self.active_plans:
            measured.add(search(measured.surrogate)[:1])
            return
        active = ActiveRounds(
            kind=self.surrogate,
            most_plans=self.active_plans,
            plans_per_round=self.plans_per_round,
            tolerance=self.tolerance,
            seed=problem.seed,
        )
        active.run(measured.plans, search=search, measure=measured.keep, neighbours=near, on_round=note)

    def _search(self, problem: Problem, space: SearchSpace, start: Integers) -> SearchResult:
        found = minimise(space, start=start, n_evaluations=self.evaluations, rng=problem.rng, algorithm=self.searcher)
        algorithm = FALLBACK if found.reason else self.searcher
        gap = "" if found.gap is None else f", within {found.gap:.2%} of optimal"
        problem.progress(f"{algorithm} search: {found.n_evaluations:,} plans, predicted {found.value:.4g}{gap}")
        problem.remember(
            "search",
            {
                "algorithm": algorithm,
                "n_evaluations": found.n_evaluations,
                "value_ms": found.value,
                "bound_ms": found.bound,
                "gap": found.gap,
                "levels": found.levels,
                "trace": [[n, value] for n, value in found.trace],
                "reason": f"not exact: {found.reason}" if found.reason else "",
            },
        )
        return found


def _flops_of(problem: Problem) -> Callable[[Integers], Floats]:
    """FLOPs of plans as an objective: what no device has to be asked for."""
    return lambda widths: problem.cost.flops(widths).astype(np.float64)


def _uniform(problem: Problem) -> Integers:
    """Widths of uniform pruning, shape (n_groups,): the largest equal share, filled up to the target."""
    share = largest_share(problem.cost, problem.target_flops)
    return fill(problem.cost, widths_at_share(problem.cost, share), problem.target_flops)


def _tightened(space: SearchSpace, uniform: Integers) -> SearchSpace:
    """The space with a tenth less importance to lose, and least widths halfway to uniform's."""
    least = space.least_widths if space.least_widths is not None else np.ones_like(uniform)
    return replace(
        space,
        least_retained=1 - 0.9 * (1 - space.least_retained) if space.retained is not None else 0.0,
        least_widths=np.maximum((least + uniform) // 2, 1),
    )


def _faster_than(measured: Measurer, uniform: Integers, candidates: list[Integers]) -> list[Integers]:
    """Candidates that beat uniform pruning when all are measured in one session, fastest first.

    Measurements of different sessions differ by the devices' drift: the least of many would be the luckiest.
    """
    if not candidates:
        return []
    latency = measured.measure(np.stack([uniform, *candidates]))
    order = np.argsort(latency[1:], kind="stable")
    return [candidates[number] for number in order if latency[1 + number] < latency[0]]
