"""One outer iteration: a FLOPs target, the model as trained so far, and what its channels are worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hdapbench.cost.model import CostModel
from hdapbench.cost.ranking import keep_best
from hdapbench.cost.target import fill, largest_share, widths_at_share
from hdapbench.errors import BudgetExceededError, ModelError
from hdapbench.method import Plan, Problem
from hdapbench.search import AdditiveImportance
from methods.hdap.importance import TRIED, Criterion, importance_table

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Stage:
    """What an outer iteration starts from.

    Attributes
    ----------
    problem
        Whose model is pruned.
    target_flops
        Of this iteration.
    criterion
        Of importance.
    before
        Plan of the iteration before, with its weights; None in the first.
    round_to
        Widths of the references are multiples of this.
    n_images
        Training images for criteria that need gradients.
    """

    problem: Problem
    target_flops: int
    criterion: Criterion
    before: Plan | None = None
    round_to: int = 1
    n_images: int = 2048
    _scores: dict[Criterion, Mapping[str, Floats]] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def scores(self) -> Mapping[str, Floats]:
        """Importance of every channel in the model as it is now; removed ones are worth nothing."""
        criterion = self.used_criterion
        return self._scores[criterion]

    @cached_property
    def used_criterion(self) -> Criterion:
        """The criterion, or with ``auto`` the one whose ranking has the least recalibrated loss at the target."""
        if self.criterion != "auto":
            self._scores[self.criterion] = self._scored(self.criterion)
            return self.criterion
        losses: dict[Criterion, float] = {}
        for criterion in TRIED:
            try:
                scores = self._scores[criterion] = self._scored(criterion)
                losses[criterion] = self.problem.recalibrated_loss(self._plan(self._ranked(scores), scores))
            except (BudgetExceededError, ModelError) as error:  # no batch norms, say
                self.problem.progress(f"importance by {criterion} cannot be judged: {error}")
        if not losses:
            last: Criterion = "l1"
            self._scores[last] = self._scored(last)
            return last
        self.problem.remember("criteria", losses)
        return min(losses, key=lambda criterion: losses[criterion])

    @cached_property
    def widest(self) -> Integers:
        """Channels that are left in each group, shape (n_groups,)."""
        if self.before is None:
            return self.problem.sizes
        return np.array(self.before.widths(list(self.problem.groups)), dtype=np.int64)

    @cached_property
    def cost(self) -> CostModel:
        """Costs of the model as it is now: its widths are the widest there can be."""
        return self.problem.cost if self.before is None else self.problem.cost.narrowed(self.widest)

    @cached_property
    def importance(self) -> AdditiveImportance:
        """Widths -> importance kept, as a share of the model's."""
        return importance_table(list(self.problem.groups), self.scores, self.used_criterion)

    @cached_property
    def uniform(self) -> Integers:
        """Widths of uniform pruning, shape (n_groups,): the largest equal share, filled up to the target.

        Raises
        ------
        TargetUnreachableError
            When the smallest widths exceed the target.
        """
        cost, target = self.cost, self.target_flops
        share = largest_share(cost, target, round_to=self.round_to)
        return fill(cost, widths_at_share(cost, share, round_to=self.round_to), target, round_to=self.round_to)

    @cached_property
    def ranking(self) -> Integers:
        """Widths when the least important channels go first, whatever their group, shape (n_groups,)."""
        return self._ranked(self.scores)

    def plan(self, widths: Integers) -> Plan:
        """Plan of these widths that keeps the most important channels of what is left, and its weights."""
        return self._plan(widths, self.scores)

    def _plan(self, widths: Integers, scores: Mapping[str, Floats]) -> Plan:
        plan = self.problem.plan_by_widths(widths, scores)
        return plan if self.before is None else plan.model_copy(update={"weights": self.before.weights})

    def _ranked(self, scores: Mapping[str, Floats]) -> Integers:
        if self.before is not None:
            scores = {name: scores[name][list(self.before.kept[name])] for name in self.problem.groups}
        kept = keep_best(self.cost, scores, self.target_flops, round_to=self.round_to)
        return np.array([len(kept[name]) for name in self.problem.groups], dtype=np.int64)

    def _scored(self, criterion: Criterion) -> Mapping[str, Floats]:
        if self.before is None or self.before.weights is None:
            return self.problem.importance(criterion, n_images=self.n_images)
        model = self.problem.model(self.before.weights)
        return self.problem.importance(criterion, n_images=self.n_images, model=model)
