"""The method `torch-pruning`: its parameters, and its scores brought to the FLOPs target or to a channel ratio."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from hdapbench.cost.ranking import keep_best, ranks_within
from hdapbench.groups import GroupSet
from hdapbench.method import Method, Plan, Problem
from hdapbench.method.plans import flops_of

from .ratio import kept_at_ratio

if TYPE_CHECKING:
    from torch import nn

    from .scorers import Scores

NORM_PRUNERS = frozenset({"bn-scale", "group-bn-scale"})


class TorchPruning(Method):
    """Remove the channels of least group importance as torch-pruning scores them, until the target is met.

    Every coupled layer of a group adds to its scores. torch-pruning prunes to a channel ratio; here the ratio follows
    from the FLOPs target, and what is left of the target is filled with the best removed channels. ``pruning_ratio``
    asks for its own ratio instead: then its kept channels are ours, and a plan above the target is infeasible.

    ``pruner`` other than ``plain`` first trains with that pruner's penalty for ``sparse_epochs``, and the runner goes
    on from the trained weights. ``iterative_steps`` prunes in rounds of equal FLOPs (or ratio), scores anew in each,
    and fine-tunes for ``step_epochs`` between them.

    Source: Fang et al., DepGraph, CVPR 2023, and the package torch-pruning 1.6; docs/parity.md shows both agree.
    Needs: batch norm in every group for bn-scale; train_epochs for taylor, hessian, obd-c and activation (``n_images``
    training images per round), for the penalties, and between rounds.
    Never sees: latency, accuracy.
    """

    name = "torch-pruning"
    importance: Literal[
        "magnitude", "bn-scale", "lamp", "fpgm", "taylor", "hessian", "obd-c", "activation", "random"
    ] = Field(default="magnitude", description="How torch-pruning scores the channels of a group.")
    pruner: Literal["plain", "group-norm", "growing-reg", "bn-scale", "group-bn-scale"] = Field(
        default="plain", description="Penalty of a sparse training before; plain: none."
    )
    scope: Literal["global", "local", "isomorphic"] = Field(
        default="local", description="Compare channels across groups, within each, or among groups of equal structure."
    )
    iterative_steps: int = Field(default=1, ge=1, description="Rounds of scoring and pruning.")
    step_epochs: float = Field(default=0.0, ge=0.0, description="Fine-tuning after each round but the last.")
    round_to: int = Field(default=1, ge=1, description="Widths are multiples of this.")
    pruning_ratio: float | None = Field(
        default=None, gt=0.0, lt=1.0, description="Share of channels to remove, in place of the FLOPs target."
    )
    n_images: int = Field(default=256, ge=1, description="Training images for importances that read data.")
    sparse_epochs: float = Field(default=1.0, ge=0.0, description="Training with the pruner's penalty.")
    reg: float = Field(default=5e-4, ge=0.0, description="Weight of the penalty.")
    delta_reg: float = Field(default=1e-4, ge=0.0, description="What growing-reg adds to the weight at a time.")
    growth_steps: int = Field(default=10, ge=1, description="Training steps between two additions.")

    def skip(self, problem: Problem) -> str | None:
        """Reason when batch norm scales are asked for and a group has none, or shares them and may not."""
        from hdapbench.prune.norms import first_shared_norm, first_without_norm

        asked = "importance" if self.importance == "bn-scale" else "pruner" if self.pruner in NORM_PRUNERS else None
        if asked and (bare := first_without_norm(problem.model(), problem.groups.values())):
            return f"{asked} {getattr(self, asked)} needs batch norm; the group '{bare}' has none"
        if self.pruner == "group-bn-scale" and (shared := first_shared_norm(problem.model(), problem.groups.values())):
            return f"pruner group-bn-scale needs batch norms of one group each; '{shared}' holds channels of others too"
        if self.pruner != "plain" or self.importance == "obd-c":
            from .groups import is_followed

            name = f"pruner {self.pruner}" if self.pruner != "plain" else f"importance {self.importance}"
            if not is_followed(problem):
                return f"{name} works on torch-pruning's own groups, which are not those of this network"
        return None

    def compress(self, problem: Problem) -> Plan:
        """Plan of the last round."""
        dense = Plan(kept={name: tuple(range(group.n_channels)) for name, group in problem.groups.items()})
        state = self._sparse(problem, _State(problem.model(), dense))
        for step in range(1, self.iterative_steps + 1):
            scores = self._scores(problem, state)
            state = replace(state, plan=self._pruned(problem, state, scores, step / self.iterative_steps))
            if self.step_epochs and step < self.iterative_steps:
                state = self._tuned(problem, state)
            problem.progress(f"round {step}: {flops_of(problem, state.plan):,} FLOPs")
        return state.plan

    def _sparse(self, problem: Problem, state: _State) -> _State:
        """State after the pruner's sparse training."""
        if self.pruner == "plain":
            return state
        from .sparse import train_sparse

        model = train_sparse(
            problem,
            self.pruner,
            epochs=self.sparse_epochs,
            reg=self.reg,
            delta_reg=self.delta_reg,
            growth_steps=self.growth_steps,
        )
        return state.trained(problem, model)

    def _scores(self, problem: Problem, state: _State) -> Scores:
        """Scores of all channels of the dense model; what is gone scores below everything that is left."""
        from .scorers import group_scores

        found = group_scores(problem, state.compact(problem), state.plan, self.importance, n_images=self.n_images)
        least = min(float(score.min()) for score in found.values()) - 1.0
        scores = {name: np.full(group.n_channels, least) for name, group in problem.groups.items()}
        for name, channels in state.plan.kept.items():
            scores[name][list(channels)] = found[name]
        return scores

    def _pruned(self, problem: Problem, state: _State, scores: Scores, progress: float) -> Plan:
        """Plan of a round: with that share of the way to the target, or to the ratio, behind it."""
        scopes = self._scopes(problem)
        if self.pruning_ratio is not None:
            ratio = self.pruning_ratio * progress
            left = {name: len(channels) for name, channels in state.plan.kept.items()}
            at_ratio = kept_at_ratio(scores, scopes, ratio, round_to=self.round_to, left=left)
            return state.plan.model_copy(update={"kept": at_ratio})
        if progress == 1.0 and self.scope == "local":
            kept = problem.plan_by_scores(scores, scope="local", round_to=self.round_to).kept
        else:
            ranks = scores if self.scope == "global" else ranks_within(scores, scopes)
            dense = problem.cost.dense.flops
            target = round(dense - progress * max(dense - problem.target_flops, 0))
            kept = keep_best(problem.cost, ranks, target, round_to=self.round_to if progress == 1.0 else 1)
        return state.plan.model_copy(update={"kept": kept})

    def _scopes(self, problem: Problem) -> list[list[str]]:
        """Groups whose channels are compared with each other, in lists."""
        if self.scope == "isomorphic":
            from .scorers import isomorphic_groups

            return isomorphic_groups(problem)
        return [list(problem.groups)] if self.scope == "global" else [[name] for name in problem.groups]

    def _tuned(self, problem: Problem, state: _State) -> _State:
        """State after fine-tuning the pruned model; charged."""
        from hdapbench.prune.expand import expand_weights

        compact = state.compact(problem)
        problem.train(compact, self.step_epochs)
        groups = GroupSet(tuple(problem.groups.values()))
        return state.trained(problem, expand_weights(state.model, compact, groups, state.plan))


@dataclass(frozen=True)
class _State:
    """Where a round starts: the model in dense shapes, and what is left of it."""

    model: nn.Module
    plan: Plan

    def compact(self, problem: Problem) -> nn.Module:
        """Copy of the model without the channels that are gone."""
        from hdapbench.prune.surgery import apply_plan

        return apply_plan(self.model, GroupSet(tuple(problem.groups.values())), self.plan)

    def trained(self, problem: Problem, model: nn.Module) -> _State:
        """State with other weights, which the runner will go on from."""
        return _State(model, self.plan.model_copy(update={"weights": problem.training.keep_weights(model)}))
