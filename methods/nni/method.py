"""The method `nni`: masks as votes of layers on the channels of their groups, brought to the exact FLOPs target."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from hdapbench.cost.target import rounded_widths
from hdapbench.method import Method, Plan, Problem
from hdapbench.method.plans import filled, weakest_that_meets

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from torch import nn

    from hdapbench.groups import ChannelGroup

    from .masks import Masks, Settings

    Votes = dict[str, NDArray[np.float64]]


class Nni(Method):
    """Remove filters as an NNI pruner masks them, at the least sparsity that meets the target.

    NNI masks single layers, and layers of one group need not agree: with ``coupling: votes`` a group keeps as many
    channels as its layers do on average, those with the most votes first; ``unanimous`` removes what all its layers
    mask, as NNI's ModelSpeedup does. ``dependency_aware`` lets NNI rank the layers of a group together, so that they
    agree. What is left of the target is filled up. Models are made compact by the framework, as for every method;
    ``speedup`` does it by ModelSpeedup too, where torch.fx can trace the model, and records how the two compare.

    slim, taylor, linear, agp and movement train for ``training_steps`` batches at each sparsity tried; of linear, agp
    and movement, which train under masks, the weights go on to the runner. AMC and NetAdapt left NNI after 2.10 (here:
    ``amc``, ``netadapt``); its level pruner masks single weights, which makes nothing smaller.

    Source: Microsoft NNI 3.0, nni.compression.pruning; docs/parity.md shows that its masks are NNI's own.
    Needs: the extra nni; batch norm in every group for slim; train_epochs for the pruners that train.
    Never sees: latency, accuracy.
    """

    name = "nni"
    extra = "nni"
    pruner: Literal["l1", "l2", "fpgm", "slim", "taylor", "linear", "agp", "movement"] = Field(
        default="l1", description="Pruner of NNI that makes the masks."
    )
    dependency_aware: bool = Field(default=False, description="Rank the layers of a group together.")
    coupling: Literal["votes", "unanimous"] = Field(default="votes", description="How a group's layers settle.")
    training_steps: int = Field(default=20, ge=1, description="Batches that pruners which train are trained on.")
    learning_rate: float = Field(default=0.001, gt=0.0, description="Learning rate of that training.")
    steps: int = Field(default=8, ge=1, description="Sparsities tried.")
    round_to: int = Field(default=1, ge=1, description="Widths are multiples of this.")
    speedup: bool = Field(default=False, description="Compare the compact model with ModelSpeedup's.")

    def skip(self, problem: Problem) -> str | None:
        """Reason when nni is not installed, or slim meets a group without batch norm, or one that it cannot rank."""
        from hdapbench.prune.norms import first_shared_norm, first_without_norm

        if importlib.util.find_spec("nni") is None:
            return "nni is not installed; install it with: pip install 'hdapbench[nni]'"
        model, groups = problem.model(), problem.groups.values()
        if self.dependency_aware and (mixed := _first_of_several_kinds(model, groups)):
            return f"dependency_aware of NNI needs layers of one kind in a group; '{mixed}' has convolutions and others"
        if self.pruner != "slim":
            return None
        if bare := first_without_norm(model, groups):
            return f"pruner slim needs batch norm; the group '{bare}' has none"
        if self.dependency_aware and (shared := first_shared_norm(model, groups)):
            return f"dependency-aware slim needs batch norms of one group each; '{shared}' holds channels of others too"
        return None

    def compress(self, problem: Problem) -> Plan:
        """Plan of the least sparsity whose masks meet the target, filled up to it."""
        from .masks import TRAINS_WEIGHTS

        norms = problem.importance("l2")
        tried: dict[str, _Tried] = {}

        def plan_at(sparsity: float) -> Plan:
            problem.progress(f"nni {self.pruner} at sparsity {sparsity:.2f}")
            votes, model = self._votes(problem, min(sparsity, 0.98))
            scores = {name: votes[name] + 1e-3 * norms[name] / max(norms[name].max(), 1e-30) for name in problem.groups}
            wanted = np.array([self._width(votes[name]) for name in problem.groups])
            widths = rounded_widths(wanted, problem.cost.sizes, self.round_to)
            plan = problem.plan_by_widths(widths, scores)
            tried[plan.id] = _Tried(scores, model)
            return plan

        plan = weakest_that_meets(problem, plan_at, steps=self.steps)
        best = tried[plan.id]
        plan = filled(problem, plan, best.scores, round_to=self.round_to)
        if self.pruner in TRAINS_WEIGHTS:
            plan = plan.model_copy(update={"weights": problem.training.keep_weights(best.model)})
        if self.speedup:
            from .speedup import compared

            problem.remember("speedup", compared(problem, best.model, plan))
        return plan

    def _width(self, votes: NDArray[np.float64]) -> int:
        """Channels that a group keeps, of the share of its layers that keeps each."""
        kept = (votes > 0).sum() if self.coupling == "unanimous" else votes.sum()
        return max(1, round(float(kept)))

    def _votes(self, problem: Problem, sparsity: float) -> tuple[Votes, nn.Module]:
        """Share of a group's layers that keep each channel, arrays of shape (n_channels,), and the model as trained."""
        from .masks import Settings, masks_of

        settings = Settings(self.pruner, self.dependency_aware, self.training_steps, self.learning_rate)
        masks, model = masks_of(problem, settings, sparsity)
        return _counted(problem, settings, masks), model


@dataclass(frozen=True)
class _Tried:
    """What a sparsity gave: scores of the channels, and the model as the pruner trained it."""

    scores: Votes
    model: nn.Module


def _counted(problem: Problem, settings: Settings, masks: Masks) -> Votes:
    """Masks -> share of each group's layers that keep each channel."""
    from .masks import targets

    norm = settings.pruner == "slim"
    votes = {}
    for name, group in problem.groups.items():
        total = np.zeros(group.n_channels)
        layers = targets(problem, name, norm=norm)
        for member in group.members:
            if member.layer in layers and member.side == ("both" if norm else "out"):
                mask = masks[member.layer]["weight"]
                alive = (mask.reshape(len(mask), -1).abs().sum(1) > 0).double().numpy()[list(member.indices)]
                total += np.bincount(member.channels, weights=alive, minlength=group.n_channels)
        votes[name] = total / len(layers)
    return votes


def _first_of_several_kinds(model: nn.Module, groups: Iterable[ChannelGroup]) -> str | None:
    """Name of the first group whose channels come from weights of different numbers of dimensions, or None."""
    modules = dict(model.named_modules())
    return next(
        (g.name for g in groups if len({modules[layer].get_parameter("weight").dim() for layer in g.producers}) > 1),
        None,
    )
