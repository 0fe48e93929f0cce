"""Actions -> widths that can always meet the FLOPs target, whatever the agent does. Pure numpy."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from hdapbench.arrays import Integers
from hdapbench.cost.model import CostModel
from hdapbench.errors import TargetUnreachableError


@dataclass(frozen=True)
class ActionClipper:
    """Turns kept shares into widths, group after group, so that the target is met with the last one.

    Early groups are free as long as all open groups at their floor would still meet the target; later ones absorb what
    is left. Costs are exact, so the last group can always be closed: never above the target, never below the floor.

    Attributes
    ----------
    cost
        Exact FLOPs of widths.
    target_flops
        What no plan may exceed.
    allowed
        Widths that each group may take, ascending, arrays of shape (n_choices,); the first is its floor.
    """

    cost: CostModel
    target_flops: int
    allowed: tuple[Integers, ...]

    @classmethod
    def of(cls, cost: CostModel, target_flops: int, *, least_share: float, round_to: int = 1) -> ActionClipper:
        """Clipper whose floors keep ``least_share`` of each group, in multiples of ``round_to`` where groups allow.

        Raises
        ------
        TargetUnreachableError
            When all groups at their floor exceed the target.
        """
        allowed = tuple(_widths(int(size), least_share, round_to) for size in cost.sizes)
        clipper = cls(cost, target_flops, allowed)
        least = int(cost.flops(clipper.floors)[0])
        if least > target_flops:
            raise TargetUnreachableError(
                f"with {least_share:g} of every group kept the model needs {least:,} FLOPs, target {target_flops:,}; "
                "lower least_share"
            )
        return clipper

    @property
    def floors(self) -> Integers:
        """Least width of each group, shape (n_groups,)."""
        return np.array([widths[0] for widths in self.allowed], dtype=np.int64)

    def width(self, group: int, decided: Integers, share: float) -> int:
        """Width for a share: the next allowed one from its channels up, or the widest that keeps the target in reach.

        Parameters
        ----------
        decided
            Widths of the groups before this one, shape (group,), each from this method.
        """
        plan = self.floors
        plan[:group] = decided

        def flops(width: np.int64) -> int:
            plan[group] = width
            return int(self.cost.flops(plan)[0])

        widths = self.allowed[group]
        # The floor is always in reach: the group before was closed with this one at its floor.
        widest = max(bisect_right(widths, self.target_flops, key=flops) - 1, 0)
        wanted = int(np.searchsorted(widths, np.rint(share * self.cost.sizes[group])))
        return int(widths[min(wanted, widest)])


def _widths(size: int, least_share: float, round_to: int) -> Integers:
    """Multiples of ``round_to`` from the least share up to the size, ascending; the size alone where there is none."""
    floor = max(int(np.ceil(least_share * size / round_to - 1e-9)), 1) * round_to
    widths = np.arange(floor, size + 1, round_to, dtype=np.int64)
    return widths if len(widths) else np.array([size], dtype=np.int64)
