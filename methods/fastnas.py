"""FastNAS (NVIDIA Model Optimizer): what each group alone may lose is measured, then one threshold holds for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.target import fill
from hdapbench.errors import TargetUnreachableError
from hdapbench.method import Method, Plan, Problem
from hdapbench.spec import TargetKind

NO_LOSS = 1e-5
"""Score that may be lost and counts as none."""

SESSIONS = 4
"""Sessions in which a plan is measured before it is said to hold a limit on latency."""

DEVIATIONS = 2.6
"""Standard deviations between sessions by which it must: another session exceeds that in one case of twenty."""


class Fastnas(Method):
    """Narrow every group to the least width that costs no more score than one threshold, the same for all groups.

    Each group alone is narrowed to each of ``choices`` widths, batch norms are recalibrated, and the model is scored on
    the search split; what it loses, made monotone, is the group's sensitivity. The threshold is the least with which
    the limits hold: the target (FLOPs, or the fleet's average clustered latency) and, where they are given,
    ``params_share`` and ``latency_share`` of the dense model's. What is left of FLOPs is filled up unless another limit
    is set. With a target on FLOPs alone, latency could only say where on the same curve to stop.

    The original evaluates some twenty widths of every group. Where the budget allows fewer, those evaluated are spread
    evenly and sensitivities in between interpolated; where it does not reach for two per group, consecutive groups
    share a curve. Channels are ordered once, by the norms of the weights that read them (``criterion: consumers``). The
    original fine-tunes at half the learning rate; here all methods are fine-tuned alike.

    Source: FastNAS in NVIDIA Model Optimizer (documentation and published code), in our form.
    Needs: evaluations, and looks at training images before each; device queries where latency is limited.
    Never sees: nothing is hidden.
    """

    name = "fastnas"
    targets: ClassVar[frozenset[TargetKind]] = frozenset({"flops", "latency"})
    choices: int = Field(default=20, ge=2, description="Widths per group, the dense one included.")
    round_to: int = Field(
        default=8, ge=1, description="Widths are multiples of this, or of a quarter of small groups; 32 as published."
    )
    score: Literal["accuracy", "loss"] = Field(
        default="accuracy", description="What is lost: accuracy, as published, or the loss on at most 1,024 images."
    )
    recalibrate: int = Field(
        default=1024, ge=0, description="Training images for batch norms before each accuracy; 50 batches as published."
    )
    criterion: Literal["consumers", "l1", "l2", "fpgm", "taylor", "fisher", "osscar", "thinet", "hrank"] = Field(
        default="consumers", description="Which channels of a group stay; consumers as published."
    )
    params_share: float | None = Field(
        default=None, gt=0.0, le=1.0, description="Parameters that may stay, of the dense model's; null: any."
    )
    latency_share: float | None = Field(
        default=None, gt=0.0, le=1.0, description="Clustered latency that may stay, of the dense model's; null: any."
    )
    reconstruct: bool = Field(default=False, description="Let weights make up for removed channels.")

    def skip(self, problem: Problem) -> str | None:
        """Reason when the criterion does not apply to the model."""
        return problem.training.lack_of(self.criterion)

    def compress(self, problem: Problem) -> Plan:
        """Plan of the least threshold with which all limits hold.

        Raises
        ------
        BudgetExceededError
            When not even two evaluations, or not a measurement, can be paid.
        TargetUnreachableError
            When the narrowest choices exceed a limit.
        """
        step = np.maximum(np.minimum(self.round_to, problem.cost.sizes // 4), 1)
        shares = np.arange(1, self.choices + 1) / self.choices
        widths = _choices(problem, shares, step)
        self._check_reachable(problem, widths[0])
        scores = problem.importance(self.criterion)
        lost = self._sensitivities(problem, scores, shares, step)
        names = list(problem.groups)
        curves = {name: [round(float(value), 6) for value in lost[:, group]] for group, name in enumerate(names)}
        problem.remember("sensitivities", {"shares": [round(float(share), 6) for share in shares], "lost": curves})
        thresholds = np.unique(lost)

        def at(number: int) -> Integers:
            narrowest = (lost <= thresholds[number]).argmax(0)
            return np.asarray(widths[narrowest, np.arange(len(names))])

        number = self._least_that_holds(problem, at, len(thresholds))
        problem.remember("threshold", float(thresholds[number]))
        found = at(number)
        if not self._latency_limits(problem) and self.params_share is None:
            found = fill(problem.cost, found, problem.target_flops, round_to=step)
        plan = problem.plan_by_widths(found, "osscar" if self.criterion == "osscar" else scores)
        return problem.training.reconstructed(plan) if self.reconstruct else plan

    def _sensitivities(self, problem: Problem, scores: dict[str, Floats], shares: Floats, step: Integers) -> Floats:
        """Score that each group alone loses at each share, shape (n_choices, n_groups): none at the widest."""
        n_groups, per_group, affordable = len(problem.groups), self.choices - 1, self._affordable(problem) - 1
        n_parts = int(max(1, min(n_groups, affordable // min(2, per_group))))
        n_widths = int(min(per_group, affordable // n_parts))
        evaluated = np.append(np.linspace(shares[0], 1.0, n_widths + 1)[:-1], 1.0)
        problem.progress(f"evaluating {n_widths} widths of each of {n_parts} parts of {n_groups} groups")
        known: dict[tuple[int, ...], float] = {}

        def score(widths: Integers) -> float:
            key = tuple(widths.tolist())
            if key not in known:
                plan = problem.plan_by_widths(widths, scores)
                known[key] = self._score(problem, plan)
            return known[key]

        dense = score(problem.cost.sizes)
        lost = np.zeros((len(shares), n_groups))
        for part in np.array_split(np.arange(n_groups), n_parts):
            curve = np.zeros(len(evaluated))
            for number, plan in enumerate(_choices(problem, evaluated, step)[:-1]):
                narrowed = problem.cost.sizes.copy()
                narrowed[part] = plan[part]
                curve[number] = max(dense - score(narrowed), 0.0)
                if curve[number] < NO_LOSS:  # wider ones lose nothing either
                    break
            curve = np.maximum.accumulate(curve[::-1])[::-1]  # from wide to narrow
            lost[:, part] = np.interp(shares, evaluated, curve)[:, None]
        return lost

    def _score(self, problem: Problem, plan: Plan) -> float:
        """Score on the search split, higher is better."""
        if self.score == "loss":
            return -problem.training.recalibrated_loss(plan)
        return problem.accuracy(plan, recalibrate=self.recalibrate)

    def _affordable(self, problem: Problem) -> int:
        """Evaluations that the budget allows, the dense model's included.

        Raises
        ------
        BudgetExceededError
            When it allows fewer than two.
        """
        training, budget = problem.training, problem.budget
        evaluations, epochs = 1.0, training.looking_epochs(min(self.recalibrate, training.n_train_images))
        if self.score == "loss":
            evaluations, epochs = training.loss_evaluations, training.reconstruction_epochs
        kept_back = training.reconstruction_epochs if self.reconstruct else 0.0
        wanted = 1.0 + (self.choices - 1) * len(problem.groups)
        by_count = min(budget.remaining("accuracy_evals") / evaluations, wanted)
        by_epochs = (budget.remaining("train_epochs") - kept_back + 1e-9) / epochs if epochs else wanted
        if by_count < 2:
            budget.charge("accuracy_evals", 2 * evaluations)
        if by_epochs < 2:
            budget.charge("train_epochs", 2 * epochs + kept_back)
        return int(min(by_count, by_epochs))

    def _check_reachable(self, problem: Problem, narrowest: Integers) -> None:
        """Refuse limits that the narrowest choices exceed, before anything is evaluated.

        Raises
        ------
        TargetUnreachableError
            When they do.
        """
        costs, dense = problem.cost.evaluate(narrowest), problem.cost.dense
        if (flops := int(costs.flops[0])) > problem.target_flops:
            raise TargetUnreachableError(
                f"the narrowest choices need {flops:,} FLOPs, target {problem.target_flops:,}; "
                "more choices, or a smaller round_to, are narrower"
            )
        if self.params_share is not None and costs.params[0] > self.params_share * dense.params:
            raise TargetUnreachableError(
                f"the narrowest choices have {costs.params[0]:,} parameters, allowed are "
                f"{self.params_share * dense.params:,.0f}; raise params_share"
            )
        limits = self._latency_limits(problem)
        if limits and (share := _share_once(problem, narrowest)) > min(limits):
            raise TargetUnreachableError(f"the narrowest choices take {share:.1%} of the dense model's latency")

    def _latency_limits(self, problem: Problem) -> list[float]:
        """Clustered latencies that must hold, as shares of the dense model's."""
        limits = [] if self.latency_share is None else [self.latency_share]
        return [*limits, problem.limit.amount] if problem.limit.kind == "latency" else limits

    def _least_that_holds(self, problem: Problem, at: Callable[[int], Integers], n_thresholds: int) -> int:
        """Number of the least threshold whose plan holds all limits, by bisection: costs fall with it.

        Raises
        ------
        TargetUnreachableError
            When none does.
        """
        limits = self._latency_limits(problem)
        most_params = (self.params_share or 1.0) * problem.cost.dense.params

        def holds(number: int, measure: Callable[[Problem, Integers], float]) -> bool:
            costs = problem.cost.evaluate(at(number))
            counted = costs.flops[0] <= problem.target_flops and costs.params[0] <= most_params
            return bool(counted) and (not limits or measure(problem, at(number)) <= min(limits))

        low, high = 0, n_thresholds - 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if holds(middle, _share_once) else (middle + 1, high)
        while not holds(low, _share_at_most):  # sessions differ: what held in one may not in the next
            low += 1
            if low >= n_thresholds:
                raise TargetUnreachableError(
                    f"no choice of widths surely takes at most {min(limits):.1%} of the dense model's clustered latency"
                )
        return low


def _choices(problem: Problem, shares: Floats, step: Integers) -> Integers:
    """Widths of every group at these shares, shape (n_shares, n_groups): multiples of its step, or dense."""
    sizes = problem.cost.sizes
    rounded = np.maximum(np.rint(shares[:, None] * sizes / step) * step, step)
    rounded[shares >= 1.0] = sizes
    return np.asarray(np.minimum(rounded, sizes), dtype=np.int64)


def _share_once(problem: Problem, widths: Integers) -> float:
    """Clustered latency as a share of the dense model's, in one session."""
    return float(problem.devices.latency_share(widths)[0])


def _share_at_most(problem: Problem, widths: Integers) -> float:
    """Share that another session exceeds rarely."""
    shares = [_share_once(problem, widths) for _ in range(SESSIONS)]
    return float(np.mean(shares) + DEVIATIONS * np.std(shares, ddof=1))
