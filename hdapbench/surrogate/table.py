"""Additive latency tables: what a model takes when one group alone changes its width. Pure numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hdapbench.arrays import Floats, Integers


@dataclass(frozen=True)
class GroupTable:
    """Latency of a whole model with one group at another width and all others at the current ones.

    Attributes
    ----------
    current_ms
        Latency at the current widths.
    widths
        Widths of each group that were tried, one array of shape (n_choices,) per group.
    latency_ms
        Latency in ms of the model with the group at each of them, arrays of the same shapes.
    """

    current_ms: float
    widths: tuple[Integers, ...]
    latency_ms: tuple[Floats, ...]

    @classmethod
    def around(
        cls, current: Integers, choices: Sequence[Integers], latency_of: Callable[[Integers], Floats]
    ) -> GroupTable:
        """Table of the choices of every group, all asked for at once.

        Parameters
        ----------
        current
            Current widths, shape (n_groups,).
        choices
            Widths of each group to try.
        latency_of
            Widths of shape (n_plans, n_groups) -> latency in ms, shape (n_plans,).
        """
        plans = [current]
        for group, widths in enumerate(choices):
            for width in widths:
                plan = current.copy()
                plan[group] = width
                plans.append(plan)
        distinct, back = np.unique(np.stack(plans), axis=0, return_inverse=True)
        latency = latency_of(distinct)[back.reshape(-1)]
        ends = np.cumsum([len(widths) for widths in choices])
        return cls(float(latency[0]), tuple(choices), tuple(np.split(latency[1:], ends[:-1])))


def multiples_below(width: int, step: int) -> Integers:
    """Multiples of ``step`` below ``width``, and ``width`` itself, ascending; never empty.

    A step of zero or one that exceeds the width gives the width alone.
    """
    if step < 1 or step > width:
        return np.array([width], dtype=np.int64)
    return np.unique(np.append(np.arange(step, width, step, dtype=np.int64), width))
