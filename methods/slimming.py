"""Network slimming (Liu et al. 2017): batch norm scales are driven towards zero, and the least go."""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from hdapbench.method import Method, Plan, Problem


class Slimming(Method):
    """Train with an L1 penalty on batch norm scales, then remove the channels of least scale, across all groups.

    Scales of tied layers add up, so that the channels of long shortcuts go last; the original leaves them all. The
    runner goes on from the trained weights. A short training needs a stronger penalty than the published one of 1e-4
    over 160 epochs, and leaves scales of layers at different levels: without ``least_share`` whole layers go.

    Source: Liu et al., Learning efficient convolutional networks through network slimming, ICCV 2017.
    Needs: batch norm in every group; is charged for its training.
    Never sees: latency, accuracy.
    """

    name = "slimming"
    epochs: float = Field(default=1.0, ge=0.0, description="Epochs of training with the penalty.")
    penalty: float = Field(default=1e-3, ge=0.0, description="Weight of the sum of absolute batch norm scales.")
    least_share: float = Field(
        default=0.1, ge=0.0, le=1.0, description="Share of each group that goes last; 0 as published."
    )
    round_to: int = Field(default=1, ge=1, description="Widths are multiples of this.")

    def skip(self, problem: Problem) -> str | None:
        """Reason when a group has no batch norm."""
        from hdapbench.prune.norms import first_without_norm

        bare = first_without_norm(problem.model(), problem.groups.values())
        return f"slimming needs batch norm; the group '{bare}' has none" if bare else None

    def compress(self, problem: Problem) -> Plan:
        """Plan of the largest scales, with the trained weights."""
        from hdapbench.prune.norms import shrink_scales

        model = problem.model()
        problem.train(model, self.epochs, regularize=lambda trained: shrink_scales(trained, self.penalty))
        scores = problem.importance("bn_scale", model=model)
        highest = max(score.max() for score in scores.values())
        for name, score in scores.items():
            last = np.argsort(-score, kind="stable")[: math.ceil(self.least_share * len(score))]
            scores[name] = score + highest * np.isin(np.arange(len(score)), last)
        plan = problem.plan_by_scores(scores, round_to=self.round_to)
        return plan.model_copy(update={"weights": problem.training.keep_weights(model)})
