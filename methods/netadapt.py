"""NetAdapt (Yang et al. 2018): one layer at a time gives way to a falling latency, where accuracy suffers least."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.target import fill
from hdapbench.errors import TargetUnreachableError
from hdapbench.groups import GroupSet
from hdapbench.method import Method, Plan, Problem
from hdapbench.method.learned_latency import TableSource, learned_latency
from hdapbench.surrogate.fit import SurrogateName
from hdapbench.surrogate.table import GroupTable, multiples_below

if TYPE_CHECKING:
    from torch import nn

    LatencyOf = Callable[[Integers], Floats]

PUBLISHED_REDUCTION = 0.025
REDUCTIONS = tuple(0.2 * 0.8**power for power in range(20))
"""First falls to try, of the dense latency: 20 % to 0.3 %."""


class Netadapt(Method):
    """Narrow one group per iteration so far that the latency limit is met, and keep the proposal of best accuracy.

    The limit lies below the present latency by ``initial_reduction`` of the dense one, then by ``decay`` times as much
    each time. Every group alone proposes its largest width that meets the limit, by a table of latencies; filters of
    largest norm stay; each proposal is fine-tuned for ``short_epochs`` and evaluated on the search split; the best one
    is the next model, with its weights. It ends when FLOPs meet the target. Published reductions begin at 0.025; null
    makes as many iterations as the budget has evaluations for.

    With ``fleet: false``, as published, the table is one nominal device's; otherwise the average over all clusters.
    Unlike the original, only the ``proposals`` that lose the least norm are evaluated (null: all), and when the budget
    ends the one that loses the least is taken unseen.

    Source: Yang et al., NetAdapt, ECCV 2018.
    Needs: a budget of device queries; uses evaluations and training as far as the budget goes.
    Never sees: nothing is hidden.
    """

    name = "netadapt"
    fleet: bool = Field(default=False, description="Average latency over all clusters, not one device.")
    table: TableSource = Field(default="surrogate", description="Where table entries come from.")
    n_plans: int = Field(default=100, ge=8, description="Plans measured for the surrogate.")
    surrogate: SurrogateName = Field(default="nnls", description="What predicts the table.")
    initial_reduction: float | None = Field(
        default=None, gt=0.0, lt=1.0, description="First fall, of the dense latency; null: the least that lasts."
    )
    decay: float = Field(default=0.96, gt=0.0, le=1.0, description="Each fall relative to the one before.")
    proposals: int | None = Field(default=4, ge=1, description="Proposals evaluated per iteration; null: all.")
    short_epochs: float = Field(default=0.1, ge=0.0, description="Fine-tuning of each proposal.")
    round_to: int = Field(default=8, ge=1, description="Widths are multiples of this, or of a quarter of small groups.")
    criterion: Literal["l1", "l2", "consumers", "osscar", "thinet", "hrank"] = Field(
        default="l2", description="Which channels of a group stay."
    )

    def skip(self, problem: Problem) -> str | None:
        """Reason when the criterion does not apply to the model."""
        return problem.training.lack_of(self.criterion)

    def compress(self, problem: Problem) -> Plan:
        """Plan that the last iteration reached, filled up to the target."""
        step = np.maximum(np.minimum(self.round_to, problem.cost.sizes // 4), 1)
        if (least := int(problem.cost.flops(step)[0])) > problem.target_flops:
            raise TargetUnreachableError(f"the smallest widths need {least:,} FLOPs, target {problem.target_flops:,}")
        latency_of = learned_latency(
            problem, fleet=self.fleet, source=self.table, n_plans=self.n_plans, surrogate=self.surrogate
        )
        state = _State(problem.cost.sizes.copy(), None, problem.importance(self.criterion))
        reduction = self.initial_reduction or self._least_lasting(problem, state, step, latency_of)
        fall = reduction * float(latency_of(problem.cost.sizes[None])[0])
        while int(problem.cost.flops(state.widths)[0]) > problem.target_flops:
            proposals = _proposals(problem, state, step, latency_of, fall)
            state = self._move(problem, state, self._best(problem, state, proposals))
            problem.progress(f"{problem.cost.flops(state.widths)[0]:,} FLOPs, fall {fall:.3g} ms")
            fall *= self.decay
        widths = fill(problem.cost, state.widths, problem.target_flops, round_to=step)
        return state.plan(problem, widths)

    def _least_lasting(self, problem: Problem, state: _State, step: Integers, latency_of: LatencyOf) -> float:
        """First fall with which the evaluations last, by walks without any that always take the proposal of most FLOPs.

        As published where nothing limits evaluations, where there are none, or where a walk would ask the devices.
        """
        per_iteration = self.proposals or len(problem.groups)
        affordable = problem.budget.remaining("accuracy_evals") / per_iteration
        if self.short_epochs:  # the chosen one is fine-tuned once more
            trained = problem.budget.remaining("train_epochs") / self.short_epochs
            affordable = min(affordable, trained / (per_iteration + 1))
        if not 1 <= affordable < math.inf or self.table == "measured":
            return PUBLISHED_REDUCTION
        dense = float(latency_of(problem.cost.sizes[None])[0])
        lasting = REDUCTIONS[0]
        for reduction in REDUCTIONS:
            walked, fall, n_iterations = state, reduction * dense, 0
            while int(problem.cost.flops(walked.widths)[0]) > problem.target_flops and n_iterations <= affordable:
                found = _proposals(problem, walked, step, latency_of, fall)[: self.proposals]
                walked = walked.narrowed(problem, max(found, key=lambda widths: int(problem.cost.flops(widths)[0])))
                fall, n_iterations = fall * self.decay, n_iterations + 1
            if n_iterations > affordable:
                break
            lasting = reduction
        problem.remember("initial_reduction", lasting)
        return lasting

    def _best(self, problem: Problem, state: _State, proposals: list[Integers]) -> Integers:
        """The most accurate of the proposals that the budget allows to evaluate; the first one when it allows none."""
        affordable = problem.budget.remaining("accuracy_evals")
        if self.short_epochs:  # one more fine-tuning makes the chosen one's weights
            affordable = min(affordable, problem.budget.remaining("train_epochs") / self.short_epochs - 1)
        evaluated = proposals[: max(int(min(affordable, self.proposals or len(proposals), len(proposals))), 0)]
        if len(evaluated) < 2:
            return proposals[0]
        accuracy = [problem.accuracy(state.plan(problem, widths), self.short_epochs) for widths in evaluated]
        return evaluated[int(np.argmax(accuracy))]

    def _move(self, problem: Problem, state: _State, widths: Integers) -> _State:
        """What the next iteration starts from: the proposal, with the weights of its short fine-tuning."""
        following = state.narrowed(problem, widths)
        if not self.short_epochs or problem.budget.remaining("train_epochs") < self.short_epochs:
            return following
        model = _fine_tuned(problem, state.model, state.plan(problem, widths), self.short_epochs)
        scores = problem.importance(self.criterion, model=model)
        alive = {name: np.where(old >= 0, scores[name], old) for name, old in following.scores.items()}
        return _State(widths, problem.training.keep_weights(model), alive, model)


@dataclass(frozen=True)
class _State:
    """Where an iteration stands: widths, handle of weights, scores of the channels, and the model in dense shapes.

    What is gone scores below zero and stays gone, whatever its weights; what scored best when it went, the least below.
    """

    widths: Integers
    weights: str | None
    scores: dict[str, Floats]
    model: nn.Module | None = None

    def plan(self, problem: Problem, widths: Integers) -> Plan:
        """Plan of these widths, from these weights."""
        return problem.plan_by_widths(widths, self.scores).model_copy(update={"weights": self.weights})

    def narrowed(self, problem: Problem, widths: Integers) -> _State:
        """The same weights with fewer channels."""
        kept = problem.plan_by_widths(widths, self.scores).kept
        scores = {}
        for name, old in self.scores.items():
            gone = np.where(old < 0, old, -1 / (1 + abs(old)))
            scores[name] = np.where(np.isin(np.arange(len(old)), kept[name]), old, gone)
        return replace(self, widths=widths, scores=scores)


def _proposals(problem: Problem, state: _State, step: Integers, latency_of: LatencyOf, fall: float) -> list[Integers]:
    """Widths that each group alone proposes to take that much latency (ms) off, least loss of norm first.

    A limit that fewer than two groups can meet alone is moved halfway to the current latency, a few times; then any
    narrower width will do, for the target is FLOPs in the end.
    """
    choices = [multiples_below(int(width), int(s)) for width, s in zip(state.widths, step, strict=True)]
    table = GroupTable.around(state.widths, choices, latency_of)
    limit = table.current_ms - fall
    for _ in range(8):
        found = _meeting(problem, state, table, limit)
        if len(found) > 1:
            return found
        limit = (limit + table.current_ms) / 2
    return _meeting(problem, state, table, np.inf)


def _meeting(problem: Problem, state: _State, table: GroupTable, limit: float) -> list[Integers]:
    """Proposals that meet a latency limit, the least loss of norm first."""
    found: list[tuple[float, int, Integers]] = []
    for group, (name, widths) in enumerate(zip(problem.groups, table.widths, strict=True)):
        narrower = widths < state.widths[group]
        meets = np.flatnonzero(narrower & (table.latency_ms[group] <= limit))
        if not len(meets):
            continue
        plans = np.tile(state.widths, (len(widths), 1))
        plans[:, group] = widths
        choice = int(meets[-1])
        reaches = np.flatnonzero(narrower & (problem.cost.flops(plans) <= problem.target_flops))
        if len(reaches):  # no narrower than the target demands
            choice = max(choice, int(reaches[-1]))
        alive = np.sort(state.scores[name][state.scores[name] >= 0])[::-1]
        lost = float(alive[widths[choice] :].sum() / max(alive.sum(), 1e-30))
        found.append((lost, group, plans[choice]))
    return [plan for _, _, plan in sorted(found, key=lambda entry: entry[:2])]


def _fine_tuned(problem: Problem, model: nn.Module | None, plan: Plan, epochs: float) -> nn.Module:
    """Model in dense shapes after a short fine-tuning of the plan's compact model; charged."""
    from hdapbench.prune.expand import expand_weights
    from hdapbench.prune.surgery import apply_plan

    dense = problem.model() if model is None else model
    groups = GroupSet(tuple(problem.groups.values()))
    compact = apply_plan(dense, groups, plan)
    problem.train(compact, epochs)
    return expand_weights(dense, compact, groups, plan)
