"""HALP (Shen et al. 2022): a knapsack of importance against latency, over a table of one device or of the fleet.

Written from the published description, not from its code. Here devices run whole models, and the target is FLOPs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.target import fill, repair
from hdapbench.errors import TargetUnreachableError
from hdapbench.groups import GroupMember, GroupSet
from hdapbench.method import Method, Plan, Problem
from hdapbench.method.learned_latency import TableSource, learned_latency
from hdapbench.search.knapsack import best_choices
from hdapbench.surrogate.fit import SurrogateName
from hdapbench.surrogate.table import GroupTable, multiples_below

if TYPE_CHECKING:
    from torch import nn


class Halp(Method):
    """Keep the channels of most importance that fit a latency, which is chosen so that FLOPs meet the target.

    A channel's importance is the first-order Taylor term of its batch norms, or of the layers that produce it where it
    has none: what a gate on their outputs would get. Channels go in bundles, the least
    important first; a table says what the model takes at every number of bundles of one group; the knapsack over all
    groups is solved exactly. In ``steps``, on an exponential path to the target, importance and table are renewed at
    the widths reached.

    With ``fleet: false``, as published, one nominal device is asked. With ``fleet: true`` the table is the average over
    all clusters. ``table: surrogate`` predicts it from ``n_plans`` measured plans; ``measured`` asks the devices for
    every entry, at every step. Unlike the original it does not train between steps.

    Source: Shen et al., Structural pruning via latency-saliency knapsack, NeurIPS 2022; written from the paper alone.
    Needs: is charged for device queries and for gradients.
    Never sees: accuracy.
    """

    name = "halp"
    fleet: bool = Field(default=False, description="Average the table over all clusters, not one device.")
    table: TableSource = Field(default="surrogate", description="Where table entries come from.")
    n_plans: int = Field(default=100, ge=8, description="Plans measured for the surrogate.")
    surrogate: SurrogateName = Field(default="nnls", description="What predicts the table.")
    bundles: int = Field(default=8, ge=2, description="Bundles per group, where channels suffice.")
    bundle: int | None = Field(default=None, ge=1, description="Channels per bundle, the same for all, instead.")
    steps: int = Field(default=4, ge=1, description="Steps from the dense model to the target.")
    n_images: int = Field(default=512, ge=1, description="Training images for gradients, in every step.")
    protect_first: bool = Field(default=True, description="Leave the first group dense, where the target allows.")

    def compress(self, problem: Problem) -> Plan:
        """Plan of the last knapsack, filled up with bundles."""
        sizes = problem.cost.sizes
        bundle = np.full_like(sizes, self.bundle) if self.bundle else np.maximum(sizes // self.bundles, 1)
        bundle = np.minimum(bundle, sizes)
        fixed = self._fixed(problem, bundle)
        latency_of = learned_latency(
            problem, fleet=self.fleet, source=self.table, n_plans=self.n_plans, surrogate=self.surrogate
        )
        current, plan = sizes.copy(), None
        for step in range(1, self.steps + 1):
            scores = bn_taylor(problem, plan, self.n_images)
            share = step / self.steps
            flops = int(np.exp(share * np.log(problem.target_flops) + (1 - share) * np.log(problem.cost.dense.flops)))
            limit = problem.target_flops if step == self.steps else flops
            choices = [
                multiples_below(int(width), 0 if group < fixed else int(bundle[group]))
                for group, width in enumerate(current)
            ]
            table = GroupTable.around(current, choices, latency_of)
            current = _knapsack(problem, scores, table, limit)
            plan = problem.plan_by_widths(current, scores)
            problem.progress(f"step {step} of {self.steps}: {problem.cost.flops(current)[0]:,} FLOPs")
        return problem.plan_by_widths(fill(problem.cost, current, problem.target_flops, round_to=bundle), scores)

    def _fixed(self, problem: Problem, bundle: Integers) -> int:
        """Number of groups at the front that stay dense: one, unless the target is out of reach with it."""
        least = bundle.copy()
        if int(problem.cost.flops(least)[0]) > problem.target_flops:
            raise TargetUnreachableError(
                f"one bundle per group still needs {int(problem.cost.flops(least)[0]):,} FLOPs, target "
                f"{problem.target_flops:,}; more bundles per group are smaller"
            )
        least[0] = problem.cost.sizes[0]
        return int(self.protect_first and int(problem.cost.flops(least)[0]) <= problem.target_flops)


def _knapsack(problem: Problem, scores: dict[str, Floats], table: GroupTable, flops: int) -> Integers:
    """Widths of most importance at the greatest latency whose FLOPs stay within the limit, shape (n_groups,)."""
    values = []
    for name, widths in zip(problem.groups, table.widths, strict=True):
        kept = np.cumsum(np.sort(scores[name])[::-1])
        values.append(kept[widths - 1])
    choices = best_choices(values, table.latency_ms)
    plans = np.stack([widths[column] for widths, column in zip(table.widths, choices.T, strict=True)], axis=1)
    fits = np.flatnonzero(problem.cost.flops(plans) <= flops)
    if len(fits):
        return np.asarray(plans[fits[-1]])
    # Where fewer channels are no faster, even the fastest plan can exceed the limit.
    return np.asarray(repair(problem.cost, plans[:1], flops)[0])


def bn_taylor(problem: Problem, plan: Plan | None, n_images: int) -> dict[str, Floats]:
    """Scores |scale * gradient + shift * gradient| of batch norms, added over tied layers and batches; charged.

    This is the derivative by a gate on the channel. Without batch norm the gate is on what the layers produce: weight
    times gradient, summed over a filter and its bias.

    Parameters
    ----------
    plan
        Channels that it does not keep are masked, and score 0; None scores the dense model.
    """
    import torch
    from torch import Tensor

    from hdapbench.prune.importance import by_channel, filters
    from hdapbench.prune.norms import norm_members
    from hdapbench.prune.surgery import mask_model

    n_images = min(n_images, problem.training.n_train_images)
    problem.budget.charge("train_epochs", n_images / problem.training.n_train_images)
    groups = GroupSet(tuple(problem.groups.values()))
    model = problem.model()
    if plan is not None:
        model = mask_model(model, groups, plan)
    modules = dict(model.named_modules())
    norms: dict[str, list[tuple[GroupMember, nn.Module]]] = {
        group.name: [*norm_members(model, group)]
        or [(member, modules[member.layer]) for member in group.members if member.side == "out"]
        for group in groups
    }
    scores = {group.name: np.zeros(group.n_channels) for group in groups}
    for images, labels in problem.training.batches(n_images):
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(problem.training.loss(model(images), labels))
        for name, members in norms.items():
            for member, layer in members:
                weight, bias = layer.get_parameter("weight"), layer.bias
                if weight.grad is None:
                    continue
                term = filters(layer, weight * weight.grad).sum(1) if weight.dim() > 1 else weight * weight.grad
                if isinstance(bias, Tensor) and bias.grad is not None:
                    term = term + bias * bias.grad
                scores[name] += by_channel(member, term.detach().abs().double().numpy(), len(scores[name]))
    return scores
