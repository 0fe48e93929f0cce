"""What the agent sees before it decides on a group: eleven numbers, eight fixed and three of the moment. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.kernels import Kernel, KernelModel
from hdapbench.cost.model import CostModel

N_STATIC, N_FEATURES = 8, 11


@dataclass(frozen=True)
class StateTable:
    """States of an episode.

    Per group, from the layer that first produces its channels: position, output channels, input channels, input height,
    input width, stride, kernel size, and the FLOPs of all its layers; these eight are scaled to [0, 1] over the groups
    (a column that is the same everywhere is 0). Then, of the moment: the share of the model's FLOPs that earlier
    decisions removed, the share that layers of later groups hold, and the share of channels kept in the group before.

    Attributes
    ----------
    cost
        Exact FLOPs of widths.
    static
        The eight fixed features, shape (n_groups, 8).
    later
        Share of the dense FLOPs in layers of later groups, shape (n_groups,).
    """

    cost: CostModel
    static: Floats
    later: Floats

    @classmethod
    def of(cls, cost: CostModel, kernels: KernelModel) -> StateTable:
        """States of a model; ``cost`` and ``kernels`` have the same groups."""
        taken, made = (counts[0] for counts in kernels.channels(kernels.sizes))
        work = np.zeros(len(kernels.groups))
        first: dict[int, Floats] = {}
        for number, kernel in enumerate(kernels.kernels):
            owner = _owner(kernel, kernels.groups)
            if kernel.kind not in {"conv", "dw", "fc"} or owner is None:
                continue
            inputs = 1 if kernel.kind == "dw" else int(taken[number])
            work[owner] += inputs * made[number] * kernel.kernel_area * kernel.height_out * kernel.width_out
            shape = [
                made[number],
                taken[number],
                kernel.height_in,
                kernel.width_in,
                kernel.stride,
                kernel.kernel_area**0.5,
            ]
            first.setdefault(owner, np.array(shape, dtype=np.float64))
        n_groups = len(kernels.groups)
        shapes = [first.get(group, np.zeros(6)) for group in range(n_groups)]
        raw = np.column_stack([np.arange(n_groups), np.stack(shapes), work])
        share = work / max(float(work.sum()), 1.0)
        later = np.append(np.cumsum(share[::-1])[::-1][1:], 0.0)
        return cls(cost, _scaled(raw), later)

    def state(self, group: int, widths: Integers) -> Floats:
        """State before the decision on a group, shape (11,).

        Parameters
        ----------
        widths
            Widths of all groups, shape (n_groups,): the decided ones up to ``group``, dense from there on.
        """
        reduced = 1.0 - float(self.cost.flops(widths)[0]) / self.cost.dense.flops
        previous = float(widths[group - 1] / self.cost.sizes[group - 1]) if group else 1.0
        return np.array([*self.static[group], reduced, self.later[group], previous])


def _owner(kernel: Kernel, groups: tuple[str, ...]) -> int | None:
    """Group that a kernel's FLOPs count for: the one it produces, or, with fixed outputs, the last one it reads."""
    named = kernel.channels_out.multiplicity or kernel.channels_in.multiplicity
    return max((groups.index(name) for name in named), default=None)


def _scaled(columns: Floats) -> Floats:
    """Columns scaled to [0, 1]; constant ones become 0."""
    low, span = columns.min(axis=0), np.ptp(columns, axis=0)
    return np.asarray(np.divide(columns - low, span, out=np.zeros_like(columns), where=span > 0))
