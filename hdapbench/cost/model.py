"""CostModel: exact FLOPs, parameters and bytes of any plan, from its widths alone. Pure numpy.

Every layer's channel counts are affine in the groups' widths, so arithmetic and parameters are bilinear:
``flops = n_out * n_in * kernel_area * area_out`` for convolutions and linear layers; depthwise ones lack ``n_in``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.records import ChannelCount, LayerRecord

BYTES_PER_VALUE = 4
"""float32. Buffers such as batch norm's running statistics are no parameters and do not count."""


@dataclass(frozen=True)
class Costs:
    """Costs of plans, int64 arrays of shape (n_plans,).

    ``flops`` are multiply-accumulates of convolution and linear layers at batch 1; ``activation_bytes`` what those
    layers read and write in float32; ``parameter_bytes`` the parameters in float32.
    """

    flops: Integers
    params: Integers
    parameter_bytes: Integers
    activation_bytes: Integers


@dataclass(frozen=True)
class DenseCosts:
    """Costs of the dense model, as plain integers."""

    flops: int
    params: int
    parameter_bytes: int
    activation_bytes: int


@dataclass(frozen=True)
class CostModel:
    """Closed form of a model's costs over the widths of its channel groups.

    Attributes
    ----------
    groups
        Names of the groups: the order of widths.
    sizes
        Channels of each group in the dense model, shape (n_groups,).
    counts_constant, counts_coefficients
        The distinct channel counts of the model as affine functions of widths.
    pair_first, pair_second, pair_flops, pair_params
        What layers cost per product of two channel counts.
    single_flops, single_params, single_activations
        What layers cost per channel.
    """

    groups: tuple[str, ...]
    sizes: Integers
    counts_constant: Integers  # (n_counts,) distinct channel counts of the model
    counts_coefficients: Integers  # (n_counts, n_groups)
    pair_first: Integers  # (n_pairs,) positions in the counts
    pair_second: Integers  # (n_pairs,)
    pair_flops: Integers  # (n_pairs,) multiply-accumulates per product of the two counts
    pair_params: Integers  # (n_pairs,)
    single_flops: Integers  # (n_counts,) per channel
    single_params: Integers  # (n_counts,)
    single_activations: Integers  # (n_counts,)

    def __post_init__(self) -> None:
        self.sizes.flags.writeable = False  # handed to methods, and shared by all trials

    @classmethod
    def from_records(cls, records: Iterable[LayerRecord], sizes: Mapping[str, int]) -> CostModel:
        """Cost model of layer records.

        Layers that share both channel counts are added up, which makes deep networks as cheap as shallow ones.

        Parameters
        ----------
        records
            What `record_layers` noted of a model.
        sizes
            Group -> channels in the dense model; their order is the order of widths.
        """
        table = _CountTable(tuple(sizes))
        pairs: dict[tuple[int, int, int], list[int]] = {}
        singles: dict[int, list[int]] = {}
        for record in records:
            if record.kind not in {"conv", "depthwise", "linear", "norm"}:
                continue
            in_channels, out_channels = table.position(record.channels_in), table.position(record.channels_out)
            calls, stored = int(record.executed), int(record.first)
            if record.kind in {"conv", "linear"}:
                # Every filter sees channels_in / n_conv_groups channels; grouped layers have frozen widths.
                pair = pairs.setdefault((in_channels, out_channels, record.n_conv_groups), [0, 0])
                pair[0] += calls * record.kernel_area * record.area_out
                pair[1] += stored * record.kernel_area
            own = singles.setdefault(out_channels, [0, 0, 0])
            if record.kind == "depthwise":
                own[0] += calls * record.kernel_area * record.area_out
                own[1] += stored * record.kernel_area
            own[1] += stored * (int(record.bias) + record.parameters_per_channel)
            if record.kind != "norm":
                own[2] += calls * record.area_out
                singles.setdefault(in_channels, [0, 0, 0])[2] += calls * record.area_in
        return cls._assemble(table, sizes, pairs, singles)

    @classmethod
    def _assemble(
        cls,
        table: _CountTable,
        sizes: Mapping[str, int],
        pairs: Mapping[tuple[int, int, int], Sequence[int]],
        singles: Mapping[int, Sequence[int]],
    ) -> CostModel:
        # A grouped convolution has constant channel counts, so dividing its constant product is exact.
        first: list[int] = []
        second: list[int] = []
        flops: list[int] = []
        params: list[int] = []
        one = table.position(ChannelCount(1))
        for (in_channels, out_channels, n_conv_groups), (per_flops, per_params) in pairs.items():
            if n_conv_groups == 1:
                row = (in_channels, out_channels, per_flops, per_params)
            else:
                product = table.constant(in_channels) * table.constant(out_channels) // n_conv_groups
                row = (one, one, product * per_flops, product * per_params)
            for column, value in zip((first, second, flops, params), row, strict=True):
                column.append(value)
        per_channel = np.zeros((len(table), 3), dtype=np.int64)
        for position, values in singles.items():
            per_channel[position] = values
        constants, coefficients = table.arrays()
        return cls(
            groups=tuple(sizes),
            sizes=np.array(list(sizes.values()), dtype=np.int64),
            counts_constant=constants,
            counts_coefficients=coefficients,
            pair_first=np.array(first, dtype=np.int64),
            pair_second=np.array(second, dtype=np.int64),
            pair_flops=np.array(flops, dtype=np.int64),
            pair_params=np.array(params, dtype=np.int64),
            single_flops=per_channel[:, 0],
            single_params=per_channel[:, 1],
            single_activations=per_channel[:, 2],
        )

    def evaluate(self, widths: ArrayLike) -> Costs:
        """Costs of plans.

        Parameters
        ----------
        widths
            Kept channels per group, shape (n_plans, n_groups) or (n_groups,).
        """
        counts = self.channel_counts(widths)
        products = counts[self.pair_first] * counts[self.pair_second]  # (n_pairs, n_plans)
        flops = self._exact(self.pair_flops @ products + self.single_flops @ counts)
        params = self._exact(self.pair_params @ products + self.single_params @ counts)
        activations = self._exact(self.single_activations @ counts)
        return Costs(flops, params, params * BYTES_PER_VALUE, activations * BYTES_PER_VALUE)

    def flops(self, widths: ArrayLike) -> Integers:
        """Multiply-accumulates of plans, shape (n_plans,); widths as for `evaluate`."""
        counts = self.channel_counts(widths)
        products = counts[self.pair_first] * counts[self.pair_second]
        return self._exact(self.pair_flops @ products + self.single_flops @ counts)

    def channel_counts(self, widths: ArrayLike) -> Floats:
        """Distinct channel counts of plans, shape (n_counts, n_plans).

        They are whole numbers held in float64, where numpy multiplies matrices fast; sums stay exact below 2**53,
        which `_exact` makes sure of.
        """
        plans = np.atleast_2d(np.asarray(widths, dtype=np.float64))
        return self._coefficients @ plans.T + self._constants

    @cached_property
    def _coefficients(self) -> Floats:
        return self.counts_coefficients.astype(np.float64)

    @cached_property
    def _constants(self) -> Floats:
        return self.counts_constant.astype(np.float64)[:, None]

    @staticmethod
    def _exact(values: Floats) -> Integers:
        if values.size and float(values.max()) >= 2.0**53:
            raise OverflowError("costs beyond 2**53 cannot be computed exactly")
        return values.astype(np.int64)

    @cached_property
    def dense(self) -> DenseCosts:
        """Costs of the dense model."""
        costs = self.evaluate(self.sizes)
        return DenseCosts(*(int(getattr(costs, name)[0]) for name in DenseCosts.__dataclass_fields__))

    @cached_property
    def minimum_flops(self) -> int:
        """Multiply-accumulates with one channel left in every group: no plan needs fewer."""
        return int(self.flops(np.ones_like(self.sizes))[0])

    def narrowed(self, widths: ArrayLike) -> CostModel:
        """Cost model of the model pruned to these widths, shape (n_groups,): they are its dense ones."""
        return replace(self, sizes=np.array(widths, dtype=np.int64))


class _CountTable:
    """The distinct channel counts of a model, each at one position."""

    def __init__(self, groups: tuple[str, ...]) -> None:
        self._groups = groups
        self._positions: dict[tuple[int, ...], int] = {}

    def position(self, count: ChannelCount) -> int:
        """Position of a channel count, added when it is new."""
        key = (count.constant, *(count.multiplicity.get(name, 0) for name in self._groups))
        return self._positions.setdefault(key, len(self._positions))

    def constant(self, position: int) -> int:
        """Value of a channel count that no group changes."""
        key = list(self._positions)[position]
        if any(key[1:]):
            raise ValueError("the channel count depends on a group")
        return key[0]

    def arrays(self) -> tuple[Integers, Integers]:
        """Constants, shape (n_counts,), and coefficients, shape (n_counts, n_groups)."""
        table = np.array(list(self._positions), dtype=np.int64).reshape(len(self._positions), -1)
        return table[:, 0], table[:, 1:]

    def __len__(self) -> int:
        return len(self._positions)
