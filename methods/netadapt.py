"""NetAdapt (Yang et al. 2018): one layer at a time gives way to a falling latency, where accuracy suffers least."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from hdapbench.cost.target import fill
from hdapbench.errors import TargetUnreachableError
from hdapbench.latency.kinds import Kind
from hdapbench.latency.table import GroupTable, multiples_below
from hdapbench.learned_latency import TableSource, learned_latency
from hdapbench.method import Method, Plan, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]


class Netadapt(Method):
    """Narrow one group per iteration so far that the latency limit is met, and keep the proposal of best accuracy.

    The limit lies below the present latency by ``initial_reduction`` (0.025 as published) of the dense one, then by
    ``decay`` times as much each time. Every group alone proposes its largest width that meets the limit, by a table
    of latencies; filters of largest norm stay; each proposal is fine-tuned for ``short_epochs`` and evaluated on the
    search split; the best one is the next model, with its weights. It ends when FLOPs meet the target.

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
    surrogate: Kind = Field(default="nnls", description="What predicts the table.")
    initial_reduction: float = Field(default=0.05, gt=0.0, lt=1.0, description="First fall, of the dense latency.")
    decay: float = Field(default=0.96, gt=0.0, le=1.0, description="Each fall relative to the one before.")
    proposals: int | None = Field(default=4, ge=1, description="Proposals evaluated per iteration; null: all.")
    short_epochs: float = Field(default=0.1, ge=0.0, description="Fine-tuning of each proposal.")
    round_to: int = Field(default=8, ge=1, description="Widths are multiples of this, or of a quarter of small groups.")
    criterion: Literal["l1", "l2"] = Field(default="l2", description="Norm by which filters of a group stay.")

    def compress(self, problem: Problem) -> Plan:
        """Plan that the last iteration reached, filled up to the target."""
        step = np.maximum(np.minimum(self.round_to, problem.sizes // 4), 1)
        if (least := int(problem.cost.flops(step)[0])) > problem.target_flops:
            raise TargetUnreachableError(f"the smallest widths need {least:,} FLOPs, target {problem.target_flops:,}")
        latency_of = learned_latency(
            problem, fleet=self.fleet, source=self.table, n_plans=self.n_plans, surrogate=self.surrogate
        )
        state = _State(problem.sizes.copy(), None, problem.importance(self.criterion))
        fall = self.initial_reduction * float(latency_of(problem.sizes[None])[0])
        while int(problem.cost.flops(state.widths)[0]) > problem.target_flops:
            choices = [multiples_below(int(width), int(s)) for width, s in zip(state.widths, step, strict=True)]
            table = GroupTable.around(state.widths, choices, latency_of)
            limit, fall = table.current_ms - fall, fall * self.decay
            widths = self._best(problem, state, _proposals(problem, state, table, limit))
            state = self._move(problem, state, widths)
            problem.progress(f"{problem.cost.flops(widths)[0]:,} FLOPs, limit {limit:.4g} ms")
        widths = fill(problem.cost, state.widths, problem.target_flops, round_to=step)
        return state.plan(problem, widths)

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
        plan = state.plan(problem, widths)
        kept = {name: np.isin(np.arange(len(state.scores[name])), plan.kept[name]) for name in problem.groups}
        following = replace(state, widths=widths)
        if self.short_epochs and problem.budget.remaining("train_epochs") >= self.short_epochs:
            model = _fine_tuned(problem, state.model, plan, self.short_epochs)
            scores = problem.importance(self.criterion, model=model)
            following = _State(widths, problem.keep_weights(model), scores, model)
        # What is gone stays gone, whatever its weights; of it, what scored best when it went comes back first.
        gone = {name: np.where(old < 0, old, -1 / (1 + abs(old))) for name, old in state.scores.items()}
        alive = {name: np.where(kept[name], following.scores[name], gone[name]) for name in problem.groups}
        return replace(following, scores=alive)


@dataclass(frozen=True)
class _State:
    """Where an iteration stands: widths, handle of weights, scores of the channels, and the model in dense shapes."""

    widths: Integers
    weights: str | None
    scores: dict[str, Floats]
    model: nn.Module | None = None

    def plan(self, problem: Problem, widths: Integers) -> Plan:
        """Plan of these widths, from these weights."""
        return problem.plan_by_widths(widths, self.scores).model_copy(update={"weights": self.weights})


def _proposals(problem: Problem, state: _State, table: GroupTable, limit: float) -> list[Integers]:
    """Widths that each group alone proposes, least loss of norm first.

    A limit that fewer than two groups can meet alone is moved halfway to the current latency, a few times; then any
    narrower width will do, for the target is FLOPs in the end.
    """
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
    from hdapbench.prune.groups import GroupSet
    from hdapbench.prune.surgery import apply_plan

    dense = problem.model() if model is None else model
    groups = GroupSet(tuple(problem.groups.values()))
    compact = apply_plan(dense, groups, plan)
    problem.train(compact, epochs)
    return expand_weights(dense, compact, groups, plan)
