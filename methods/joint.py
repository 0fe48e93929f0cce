"""Joint training and pruning: one training drives whole channels to zero, and they are cut where they vanish."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from hdapbench.arrays import Floats
from hdapbench.groups import GroupSet
from hdapbench.method import Method, Plan, Problem

if TYPE_CHECKING:
    from torch import nn

    from hdapbench.prune.sparsity import ChannelWeights

CHECKS = 20
"""How often the least channels are looked for anew while the penalty grows."""


class Joint(Method):
    """Train with a penalty on all weights of a channel at once, then cut the channels that it has driven to zero.

    ``growing-l2``: at ``CHECKS`` times between ``start`` and ``stop`` of the training, the channels are found that go
    if those of least norm go until the target is met; they alone are pulled to zero, ever more strongly up to
    ``strength``. Once two successive plans agree by ``agreement``, the plan is fixed. ``group-lasso`` adds
    ``strength`` times the norm of every channel to the loss, from the start, and cuts the least in the end.

    Norms are over all layers that produce or read a channel, relative to their group's mean. The training is that of
    the spec's recipe and charged; by default it is as long as the fine-tuning that every method gets, which follows.
    Its originals train once, for 300 epochs.

    Source: growing penalty and stable sub-networks as in OCSPruner (arXiv 2501.13439), growing L2 after Wang et al.
    2021 (GReg), lasso over channels after Wen et al. 2016; written from the papers alone.
    Needs: is charged for its training.
    Never sees: latency, accuracy.
    """

    name = "joint"
    penalty: Literal["growing-l2", "group-lasso"] = Field(default="growing-l2", description="What drives channels.")
    epochs: float | None = Field(
        default=None, ge=0.0, description="Epochs of training; null: as many as the final fine-tuning."
    )
    strength: float | None = Field(
        default=None, ge=0.0, description="Weight of the penalty, at its end; null: 1 for growing-l2, 0.001 for lasso."
    )
    start: float = Field(default=0.1, ge=0.0, le=1.0, description="Share of the training after which it grows.")
    stop: float = Field(default=0.5, ge=0.0, le=1.0, description="Share after which it is at its full strength.")
    agreement: float = Field(
        default=0.999, ge=0.0, le=1.0, description="Share of kept channels in which successive plans agree in the end."
    )
    least_share: float = Field(default=0.25, ge=0.0, le=1.0, description="Share of each group that goes last.")
    round_to: int = Field(default=1, ge=1, description="Widths are multiples of this.")

    def compress(self, problem: Problem) -> Plan:
        """Plan that the training settled on, with its weights."""
        epochs = problem.training.fine_tune_epochs if self.epochs is None else self.epochs
        model = problem.model()
        pressure = _Pressure(self, problem, max(problem.training.n_steps(epochs), 1))
        if epochs:
            problem.train(model, epochs, regularize=pressure)
        plan = pressure.plan if self.penalty == "growing-l2" else None
        problem.remember("agreements", [round(share, 4) for share in pressure.agreements])
        plan = plan or pressure.plan_now(model)
        return plan.model_copy(update={"weights": problem.training.keep_weights(model)})


@dataclass
class _Pressure:
    """What a training calls after every backward pass.

    Attributes
    ----------
    n_steps
        Steps of the whole training.
    plan
        Latest plan of the channels that stay; None before the penalty grows.
    agreements
        Share of kept channels in which each two successive plans agreed.
    """

    method: Joint
    problem: Problem
    n_steps: int
    plan: Plan | None = None
    agreements: list[float] = field(default_factory=list)
    _step: int = 0
    _weights: ChannelWeights | None = None

    def __call__(self, model: nn.Module) -> None:
        """Change the gradients of a model by those of the penalty."""
        import torch

        method, done = self.method, self._step / self.n_steps
        self._step += 1
        weights = self._weights_of(model)
        if method.penalty == "group-lasso":
            strength = 1e-3 if method.strength is None else method.strength
            weights.pull({name: strength / norms.clamp_min(1e-8) for name, norms in weights.norms().items()})
            return
        if done < method.start:
            return
        every = max(1, round(max(method.stop - method.start, 0.0) * self.n_steps / CHECKS))
        if self.plan is None or (not self._is_fixed and self._step % every == 0):
            self._renew(model)
        grown = min(1.0, (done - method.start) / max(method.stop - method.start, 1e-9))
        strength = (1.0 if method.strength is None else method.strength) * grown
        factors = {}
        for name, group in self.problem.groups.items():
            factors[name] = torch.full((group.n_channels,), 2 * strength)
            factors[name][list(self.plan.kept[name] if self.plan else ())] = 0.0
        weights.pull(factors)

    @property
    def _is_fixed(self) -> bool:
        return bool(self.agreements) and self.agreements[-1] >= self.method.agreement

    def _renew(self, model: nn.Module) -> None:
        """Look for the least channels anew."""
        plan = self.plan_now(model)
        if self.plan is not None:
            both = sum(len(set(plan.kept[name]) & set(self.plan.kept[name])) for name in plan.kept)
            either = sum(len(set(plan.kept[name]) | set(self.plan.kept[name])) for name in plan.kept)
            self.agreements.append(both / either)
        self.plan = plan

    def plan_now(self, model: nn.Module) -> Plan:
        """Plan that removes the channels of least norm until the target is met.

        Raises
        ------
        TargetUnreachableError
            When no plan meets it.
        """
        scores: dict[str, Floats] = {}
        for name, norms in self._weights_of(model).norms().items():
            scores[name] = norms.numpy() / max(float(norms.mean()), 1e-30)
        highest = max(score.max() for score in scores.values())
        for name, score in scores.items():
            last = np.argsort(-score, kind="stable")[: math.ceil(self.method.least_share * len(score))]
            scores[name] = score + highest * np.isin(np.arange(len(score)), last)
        return self.problem.plan_by_scores(scores, round_to=self.method.round_to)

    def _weights_of(self, model: nn.Module) -> ChannelWeights:
        from hdapbench.prune.sparsity import ChannelWeights

        if self._weights is None:
            self._weights = ChannelWeights(model, GroupSet(tuple(self.problem.groups.values())))
        return self._weights
