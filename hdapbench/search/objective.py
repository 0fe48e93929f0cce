"""Objectives and importances that are sums of tables: what the exact search can take apart.

An engine runs kernel after kernel, so latency is a sum over kernels of a function of each kernel's input and output
channels. Whatever keeps that form can be minimised exactly: the mean of a simulated fleet, a surrogate that is linear
in features of single kernels, one nominal board, FLOPs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.kernels import KernelModel
from hdapbench.cost.records import ChannelCount


class TableObjective(ABC):
    """Widths -> value, as a sum over kernels of functions of their input and output channels.

    Attributes
    ----------
    kernels
        The kernels, whose channel counts are affine in the groups' widths.
    constant
        What is added to the sum.
    """

    kernels: KernelModel
    constant: float = 0.0

    @abstractmethod
    def kernel_cost(self, number: int, in_channels: Integers, out_channels: Integers) -> Floats:
        """Cost of kernel ``number``, shape (n_pairs,).

        Parameters
        ----------
        in_channels, out_channels
            Its input and output channels, shape (n_pairs,).
        """

    def table_key(self, number: int) -> Hashable:
        """Kernels with equal keys cost the same at equal channels; each kernel by itself unless overridden."""
        return number

    def __call__(self, widths: ArrayLike) -> Floats:
        """Values of plans, shape (n_plans,), for widths of shape (n_plans, n_groups)."""
        in_channels, out_channels = self.kernels.channels(widths)
        codes = in_channels << 32 | out_channels  # (n_plans, n_kernels)
        costs = np.empty(codes.shape)
        for numbers in self._alike:
            # Plans share widths, and kernels their shape: each distinct pair of channel counts is valued once.
            distinct, back = np.unique(codes[:, numbers].ravel(), return_inverse=True)
            cost = self.kernel_cost(numbers[0], distinct >> 32, distinct & 0xFFFFFFFF)
            costs[:, numbers] = cost[back].reshape(len(codes), len(numbers))
        total = np.full(len(codes), self.constant)
        for cost in costs.T:  # one after another, so that a plan's value does not depend on its neighbours
            total += cost
        return total

    @cached_property
    def _alike(self) -> tuple[list[int], ...]:
        """Numbers of the kernels with equal keys."""
        numbers: dict[Hashable, list[int]] = {}
        for number in range(len(self.kernels)):
            numbers.setdefault(self.table_key(number), []).append(number)
        return tuple(numbers.values())


@dataclass(frozen=True)
class AdditiveImportance:
    """Importance that plans keep: a sum over groups of a function of the group's width.

    Attributes
    ----------
    kept
        Per group what each width keeps, from zero channels to all, shape (n_channels + 1,). It must not fall.
    """

    kept: tuple[Floats, ...]

    @classmethod
    def of_scores(cls, scores: Sequence[Floats]) -> AdditiveImportance:
        """Share of the total score that stays when each group keeps its best channels.

        Parameters
        ----------
        scores
            Per group the score of every channel, shape (n_channels,); not negative.
        """
        total = sum(float(np.sum(score)) for score in scores)
        return cls(tuple(np.concatenate([[0.0], np.cumsum(np.sort(score)[::-1])]) / total for score in scores))

    def __call__(self, widths: ArrayLike) -> Floats:
        """Importance that plans keep, shape (n_plans,)."""
        plans = np.atleast_2d(np.asarray(widths, dtype=np.int64))
        return np.asarray(self._flat[plans + self._starts].sum(axis=1))

    @cached_property
    def _flat(self) -> Floats:
        return np.concatenate(self.kept)

    @cached_property
    def _starts(self) -> Integers:
        return np.cumsum([0, *(len(table) for table in self.kept[:-1])]).astype(np.int64)


def kernel_alone(kernels: KernelModel, number: int) -> KernelModel:
    """Model of one kernel, whose two groups are its input and output channels."""
    kernel = kernels.kernels[number]
    groups = ("in_channels", "out_channels")
    channels_in, channels_out = (ChannelCount(0, {group: 1}) for group in groups)
    lonely = replace(kernel, channels_in=channels_in, channels_out=channels_out)
    return KernelModel(groups, np.ones(2, dtype=np.int64), (lonely,))


def kernel_shape(kernels: KernelModel, number: int) -> Hashable:
    """All that a kernel's time depends on besides its channels."""
    kernel = kernels.kernels[number]
    sides = (kernel.height_in, kernel.width_in, kernel.height_out, kernel.width_out)
    return (kernel.kind, *sides, kernel.kernel_area, kernel.stride, kernel.residual)
