"""Scores of channels -> which go, across groups, until a FLOPs target is met. Pure numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.model import CostModel
from hdapbench.cost.target import fill, rounded_widths
from hdapbench.errors import TargetUnreachableError


def keep_best(
    cost: CostModel, scores: Mapping[str, NDArray[np.floating]], target_flops: int, *, round_to: int = 1
) -> dict[str, tuple[int, ...]]:
    """Kept channels of every group when the channels of least score go, whatever their group, until the target is met.

    Parameters
    ----------
    scores
        Group -> score of each channel, shape (n_channels,). The best channel of each group always stays.
    round_to
        What a group keeps is rounded to a multiple of this; what that leaves of the target is filled up.

    Raises
    ------
    TargetUnreachableError
        When the target is exceeded with one channel (or ``round_to``) left in every group.
    """
    owners, channels = _least_first(cost, scores)

    def widths_without(n_removed: int) -> Integers:
        left = cost.sizes - np.bincount(owners[:n_removed], minlength=len(cost.sizes))
        return rounded_widths(left, cost.sizes, round_to)

    n_removed = _least_removed(cost, widths_without, len(owners), target_flops)
    widths = widths_without(n_removed)
    if round_to > 1:
        widths = fill(cost, widths, target_flops, round_to=round_to)
    else:
        _bring_back(cost, widths, owners[:n_removed][::-1], target_flops)
    kept = {}
    for number, name in enumerate(cost.groups):
        gone = channels[owners == number][: cost.sizes[number] - widths[number]]
        stays = np.setdiff1d(np.arange(cost.sizes[number]), gone)
        kept[name] = tuple(int(channel) for channel in stays)
    return kept


def ranks_within(scores: Mapping[str, NDArray[np.floating]], scopes: list[list[str]]) -> dict[str, Floats]:
    """Scores replaced by their rank among all channels of a scope, in (0, 1]: the least shares of all scopes compare.

    Parameters
    ----------
    scopes
        Lists of groups; each group is in exactly one.
    """
    ranks: dict[str, Floats] = {}
    for names in scopes:
        together = np.concatenate([np.asarray(scores[name], dtype=float) for name in names])
        rank = np.empty(len(together))
        rank[np.argsort(together, kind="stable")] = np.arange(1, len(together) + 1) / len(together)
        ends = np.cumsum([len(scores[name]) for name in names])
        ranks.update(zip(names, np.split(rank, ends[:-1]), strict=True))
    return ranks


def _least_first(cost: CostModel, scores: Mapping[str, NDArray[np.floating]]) -> tuple[Integers, Integers]:
    """Group and channel of everything that may go, the least score first; each group's best channel is left out."""
    ranked = []
    for number, name in enumerate(cost.groups):
        score = np.asarray(scores[name], dtype=float)
        best = int(np.argmax(score))
        ranked += [(float(value), number, c) for c, value in enumerate(score) if c != best]
    ranked.sort()
    table = np.array([(number, channel) for _, number, channel in ranked], dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _least_removed(cost: CostModel, widths_without: Callable[[int], Integers], highest: int, target_flops: int) -> int:
    """Smallest number of removed channels whose widths meet the target; FLOPs must not rise with it."""
    low, high = 0, highest
    least = int(cost.flops(widths_without(highest))[0])
    if least > target_flops:
        raise TargetUnreachableError(
            f"the fewest channels per group still need {least:,} FLOPs, target {target_flops:,}"
        )
    while low < high:
        middle = (low + high) // 2
        if int(cost.flops(widths_without(middle))[0]) <= target_flops:
            high = middle
        else:
            low = middle + 1
    return high


def _bring_back(cost: CostModel, widths: Integers, owners: Integers, target_flops: int) -> None:
    """Widen ``widths`` in place by removed channels, the best first, wherever the target allows one more."""
    closed = np.zeros(len(widths), dtype=bool)  # what exceeds the target now will exceed it later
    for group in owners:
        if closed.all():
            return
        if closed[group]:
            continue
        widths[group] += 1
        if int(cost.flops(widths)[0]) > target_flops:
            widths[group] -= 1
            closed[group] = True


def top_channels(scores: NDArray[np.floating], width: int) -> tuple[int, ...]:
    """Indices of the ``width`` highest scores, ascending; equal scores keep the lower index."""
    order = np.argsort(-np.asarray(scores, dtype=float), kind="stable")[:width]
    return tuple(sorted(int(index) for index in order))
