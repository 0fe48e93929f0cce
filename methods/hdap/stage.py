"""One outer iteration: a FLOPs target, the model as trained so far, and what its channels are worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.model import CostModel
from hdapbench.cost.ranking import keep_best
from hdapbench.cost.target import fill, largest_share, widths_at_share
from hdapbench.method import Plan, Problem
from hdapbench.search import AdditiveImportance

from .importance import Criterion, importance_table


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
    reconstruct
        Whether weights make up for removed channels.
    """

    problem: Problem
    target_flops: int
    criterion: Criterion
    before: Plan | None = None
    round_to: int = 1
    n_images: int = 2048
    reconstruct: bool = False

    @cached_property
    def scores(self) -> Mapping[str, Floats]:
        """Importance of every channel in the model as it is now; removed ones are worth nothing.

        Raises
        ------
        BudgetExceededError
            When gradients cannot be paid.
        ModelError
            When the criterion does not apply to the model.
        """
        model = None
        if self.before is not None and self.before.weights is not None:
            model = self.problem.model(self.before.weights)
        return self.problem.importance(self.criterion, n_images=self.n_images, model=model)

    @cached_property
    def widest(self) -> Integers:
        """Channels that are left in each group, shape (n_groups,)."""
        if self.before is None:
            return self.problem.cost.sizes
        return np.array(self.before.widths(list(self.problem.groups)), dtype=np.int64)

    @cached_property
    def cost(self) -> CostModel:
        """Costs of the model as it is now: its widths are the widest there can be."""
        return self.problem.cost if self.before is None else self.problem.cost.narrowed(self.widest)

    @cached_property
    def importance(self) -> AdditiveImportance:
        """Widths -> importance kept, as a share of the model's."""
        return importance_table(list(self.problem.groups), self.scores, self.criterion)

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
        scores = self.scores
        if self.before is not None:
            scores = {name: scores[name][list(self.before.kept[name])] for name in self.problem.groups}
        kept = keep_best(self.cost, scores, self.target_flops, round_to=self.round_to)
        return np.array([len(kept[name]) for name in self.problem.groups], dtype=np.int64)

    def between(self, widths: Integers, share: float) -> Integers:
        """Plan on the way from uniform pruning to another one, shape (n_groups,): geometric means of their widths.

        FLOPs are a sum of products of widths, so their logarithm is convex in the logarithms of widths, and no plan on
        the way needs more than both ends; rounding down keeps it so.

        Parameters
        ----------
        share
            Of the way, in [0, 1].
        """
        means = np.floor(self.uniform ** (1.0 - share) * widths.astype(float) ** share + 1e-9)
        if self.round_to > 1:
            means = np.floor(means / self.round_to) * self.round_to
        return np.asarray(np.maximum(means, np.minimum(self.uniform, widths)), dtype=np.int64)

    def loss(self, widths: Integers) -> float:
        """Recalibrated loss of the plan of these widths; charged.

        Raises
        ------
        BudgetExceededError
            When it cannot be paid.
        """
        return self.problem.training.recalibrated_loss(self.plan(widths), reconstruct=self.reconstruct)

    def accuracy(self, widths: Integers, epochs: float) -> float:
        """Accuracy on the search split after fine-tuning the plan of these widths; charged.

        Raises
        ------
        BudgetExceededError
            When it cannot be paid.
        """
        return self.problem.accuracy(self.plan(widths), epochs, reconstruct=self.reconstruct)

    def plan(self, widths: Integers) -> Plan:
        """Plan of these widths that keeps the most important channels of what is left, and its weights."""
        plan = self.problem.plan_by_widths(widths, self.scores)
        return plan if self.before is None else plan.model_copy(update={"weights": self.before.weights})
