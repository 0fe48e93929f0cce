"""Which candidate groups survive losing channels: the check behind every group that is offered for pruning."""

from __future__ import annotations

import math
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from hdapbench.errors import SurgeryError
from hdapbench.groups import ChannelGroup, FrozenGroup, GroupSet
from hdapbench.plan import Plan
from hdapbench.prune.surgery import apply_plan, largest_difference, mask_model

TOLERANCE = 1e-9
"""Largest difference between masked and compact model in float64, relative to the largest output."""

ROUNDS = 2
"""Random halves of the channels that are removed in turn: a small group may pass one by luck."""


def verify_groups(
    model: nn.Module, candidates: list[ChannelGroup], probe: Tensor
) -> tuple[list[ChannelGroup], list[FrozenGroup]]:
    """Candidates that survive losing a random half of their channels, and the others with their reasons.

    A group survives when the compact model has the masked model's output shapes and values. All groups are tried at
    once, and halved until the culprits show. The check is about structure, so it runs with random weights, where
    no branch is silent because of a zero scale or a saturated output, and in float64, where rounding hides nothing.

    Parameters
    ----------
    model
        Model in eval mode; not changed.
    probe
        One input or more, shape (n, channels, height, width).
    """
    twin = _with_random_weights(model)
    return _survivors(twin, candidates, probe[:1].double())


def _with_random_weights(model: nn.Module) -> nn.Module:
    """Deep copy in float64 whose layers have random weights that keep activations at scale one (He et al. 2015)."""
    twin = deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in twin.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                bound = math.sqrt(6.0 / module.weight[0].numel())
                module.weight.uniform_(-bound, bound, generator=generator)
                if module.bias is not None:
                    module.bias.normal_(0.0, 0.1, generator=generator)
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                if module.affine:
                    module.weight.uniform_(0.5, 1.5, generator=generator)
                    module.bias.normal_(0.0, 0.1, generator=generator)
                if module.running_mean is not None and module.running_var is not None:
                    module.running_mean.normal_(0.0, 0.1, generator=generator)
                    module.running_var.uniform_(0.5, 2.0, generator=generator)
    return twin.double()


def _survivors(
    model: nn.Module, candidates: list[ChannelGroup], probe: Tensor
) -> tuple[list[ChannelGroup], list[FrozenGroup]]:
    if not candidates:
        return [], []
    reason = _reason_against(model, candidates, probe)
    if reason is None:
        return candidates, []
    if len(candidates) == 1:
        return [], [_frozen(candidates[0], reason)]
    middle = len(candidates) // 2
    good, bad = _survivors(model, candidates[:middle], probe)
    later, bad_later = _survivors(model, candidates[middle:], probe)
    bad += bad_later
    if not good or not later or (bad and _reason_against(model, good + later, probe) is None):
        return good + later, bad
    # Each half survives by itself and the two together do not: some groups exclude each other, the later ones yield.
    for group in later:
        conflict = _reason_against(model, [*good, group], probe)
        if conflict is None:
            good.append(group)
        else:
            bad.append(_frozen(group, f"conflicts with another group: {conflict}"))
    return good, bad


def _frozen(group: ChannelGroup, reason: str) -> FrozenGroup:
    return FrozenGroup(group.name, group.n_channels, reason)


def _reason_against(model: nn.Module, groups: list[ChannelGroup], probe: Tensor) -> str | None:
    """Why these groups cannot all lose channels at the same time, or None."""
    group_set = GroupSet(tuple(groups))
    for seed in range(ROUNDS):
        rng = np.random.default_rng(seed)
        kept = {
            group.name: tuple(sorted(rng.choice(group.n_channels, group.n_channels // 2, replace=False).tolist()))
            for group in groups
        }
        plan = Plan(kept=kept)
        try:
            compact = apply_plan(model, group_set, plan)
            difference, largest = largest_difference(mask_model(model, group_set, plan), compact, probe)
        except SurgeryError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - whatever a wrongly cut model raises is the reason
            return f"the pruned model fails: {' '.join(str(error).split())[:140]}"
        if difference > TOLERANCE * max(largest, 1e-30):
            return f"masked and compact model differ by {difference:.2g} where outputs reach {largest:.2g}"
    return None
