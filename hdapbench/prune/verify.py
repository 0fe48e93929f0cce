"""Which candidate groups survive losing channels: the check behind every group that is offered for pruning."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from copy import deepcopy
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from hdapbench.axes.layers import BATCH_NORMS, CONVOLUTIONS, PER_CHANNEL, n_channels
from hdapbench.errors import SurgeryError
from hdapbench.groups import ChannelGroup, FrozenGroup, GroupSet
from hdapbench.plan import Plan
from hdapbench.prune.surgery import apply_plan, largest_difference, mask_model, output_tensors, over_kept_channels

TOLERANCE = 1e-9
"""Largest difference between masked and compact model in float64, relative to the largest output."""

SINGLE_TOLERANCE = 1e-4
"""The same in float32, for large models: a channel in the wrong place shows in the first digit."""

MOST_IN_DOUBLE = 20_000_000
"""Parameters of the largest model that is checked in float64."""

SHARES = (1 / 2, 1 / 3)
"""Shares of channels that are kept when shapes alone are checked."""

ROUNDS = 2
"""Random halves of the channels that are removed in turn: a small group may pass one by luck."""

Check = Callable[[list[ChannelGroup]], str | None]
"""Why these groups cannot all lose channels at the same time, or None."""


def verify_groups(
    model: nn.Module, candidates: list[ChannelGroup], probe: Tensor
) -> tuple[list[ChannelGroup], list[FrozenGroup]]:
    """Candidates that survive losing a random half of their channels, and the others with their reasons.

    A group survives when the compact model has the masked model's output shapes and values. All groups are tried at
    once, and halved until the culprits show. The check is about structure, so it runs with random weights, where
    no branch is silent because of a zero scale or a saturated output, and in float64 where
    that is affordable: rounding hides nothing there.

    Parameters
    ----------
    model
        Model in eval mode; not changed.
    probe
        One input or more, shape (n, channels, height, width).
    """
    fitting: list[ChannelGroup] = candidates
    misfits: list[FrozenGroup] = []
    shapes = _shapes_check(model, probe[:1])
    if shapes is not None:  # no numbers are computed there: whatever does not fit is found in milliseconds
        fitting, misfits = _survivors(candidates, shapes)
    groups, wrong = _survivors(fitting, _numbers_check(model, probe[:1]))
    return groups, [*misfits, *wrong]


def _shapes_check(model: nn.Module, probe: Tensor) -> Check | None:
    """Check that cut models run and give outputs of the dense model's shapes; None where it needs numbers to run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        empty = deepcopy(model).to("meta")
        for norm in empty.modules():
            if isinstance(norm, BATCH_NORMS) and type(norm).forward in _BATCH_NORM_FORWARD:
                vars(norm)["forward"] = partial(_same_width, norm)  # torch's own rule without numbers is slow
        blank = probe.to("meta")
        try:
            expected = [tensor.shape for tensor in output_tensors(empty, blank)]
        except Exception:  # noqa: BLE001 - tensors that are no parameters stay where they are, and the two do not mix
            return None

    def reason_against(groups: list[ChannelGroup]) -> str | None:
        group_set = GroupSet(tuple(groups))
        for part in SHARES:
            plan = Plan(kept={group.name: tuple(range(math.ceil(group.n_channels * part))) for group in groups})
            try:
                found = [tensor.shape for tensor in output_tensors(apply_plan(empty, group_set, plan), blank)]
            except Exception as error:  # noqa: BLE001 - whatever a wrongly cut model raises is the reason
                if "meta" in str(error):  # this model needs numbers to run after all
                    return None
                return _failure(error)
            if found != expected:
                return "pruning changes the output shape"
        return None

    return reason_against


def _runs_in_double(model: nn.Module, probe: Tensor) -> bool:
    """Whether a model runs in float64: one with constants in its code does not."""
    try:
        output_tensors(deepcopy(model).double(), probe.double())
    except Exception:  # noqa: BLE001 - two types that do not meet raise as each operation likes
        return False
    return True


_BATCH_NORM_FORWARD = {norm.forward for norm in BATCH_NORMS}


def _same_width(norm: nn.Module, x: Tensor) -> Tensor:
    """Stand-in for a batch norm where shapes alone count.

    Raises
    ------
    SurgeryError
        When it gets other channels than it has.
    """
    if x.shape[1] != n_channels(norm, "both"):
        raise SurgeryError(f"a batch norm of {n_channels(norm, 'both')} channels gets {x.shape[1]}")
    return x


def _failure(error: Exception) -> str:
    return f"the pruned model fails: {' '.join(str(error).split())[:140]}"


def _numbers_check(model: nn.Module, probe: Tensor) -> Check:
    """Check that cut models compute what masked ones do."""
    twin = _with_random_weights(model)
    is_large = sum(parameter.numel() for parameter in model.parameters()) > MOST_IN_DOUBLE
    tolerance = SINGLE_TOLERANCE
    if not is_large and _runs_in_double(twin, probe):
        twin, probe, tolerance = twin.double(), probe.double(), TOLERANCE

    def reason_against(groups: list[ChannelGroup]) -> str | None:
        group_set = GroupSet(tuple(groups))
        for seed in range(1 if is_large else ROUNDS):
            rng = np.random.default_rng(seed)
            kept = {
                group.name: tuple(sorted(rng.choice(group.n_channels, group.n_channels // 2, replace=False).tolist()))
                for group in groups
            }
            plan = Plan(kept=kept)
            try:
                compact = apply_plan(twin, group_set, plan)
                masked = mask_model(twin, group_set, plan)
                with over_kept_channels(masked, compact, group_set, plan):
                    difference, largest = largest_difference(masked, compact, probe)
            except SurgeryError as error:
                return str(error)
            except Exception as error:  # noqa: BLE001 - whatever a wrongly cut model raises is the reason
                return _failure(error)
            if difference > tolerance * max(largest, 1e-30):
                return f"masked and compact model differ by {difference:.2g} where outputs reach {largest:.2g}"
        return None

    return reason_against


def _with_random_weights(model: nn.Module) -> nn.Module:
    """Deep copy whose layers have random weights that keep activations at scale one (He et al. 2015)."""
    twin = deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in twin.modules():
            if isinstance(module, (*CONVOLUTIONS, nn.Linear)):
                bound = math.sqrt(6.0 / module.weight[0].numel())
                module.weight.uniform_(-bound, bound, generator=generator)
                if module.bias is not None:
                    module.bias.normal_(0.0, 0.1, generator=generator)
            elif isinstance(module, PER_CHANNEL) and not isinstance(module, nn.PReLU):
                _randomise(module, generator)
    return twin


def _randomise(norm: nn.Module, generator: torch.Generator) -> None:
    """Weights and statistics of a norm as they might be after training."""
    scale, shift = getattr(norm, "weight", None), getattr(norm, "bias", None)
    if scale is not None:
        scale.uniform_(0.5, 1.5, generator=generator)
    if shift is not None:
        shift.normal_(0.0, 0.1, generator=generator)
    mean, variance = getattr(norm, "running_mean", None), getattr(norm, "running_var", None)
    if mean is not None and variance is not None:
        mean.normal_(0.0, 0.1, generator=generator)
        variance.uniform_(0.5, 2.0, generator=generator)


def _survivors(candidates: list[ChannelGroup], check: Check) -> tuple[list[ChannelGroup], list[FrozenGroup]]:
    if not candidates:
        return [], []
    reason = check(candidates)
    if reason is None:
        return candidates, []
    if len(candidates) == 1:
        return [], [_frozen(candidates[0], reason)]
    middle = len(candidates) // 2
    good, bad = _survivors(candidates[:middle], check)
    later, bad_later = _survivors(candidates[middle:], check)
    bad += bad_later
    if not good or not later or (bad and check(good + later) is None):
        return good + later, bad
    # Each half survives by itself and the two together do not: some groups exclude each other, the later ones yield.
    for group in later:
        conflict = check([*good, group])
        if conflict is None:
            good.append(group)
        else:
            bad.append(_frozen(group, f"conflicts with another group: {conflict}"))
    return good, bad


def _frozen(group: ChannelGroup, reason: str) -> FrozenGroup:
    return FrozenGroup(group.name, group.n_channels, reason)
