"""Terms: what records cost, summed up per pair of channel counts and per channel."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from hdapbench.arrays import Integers
from hdapbench.cost.records import WEIGHTED, ChannelCount, LayerRecord, product
from hdapbench.errors import UnknownLayerError


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


class Terms:
    """Sums up what records cost, per pair of channel counts and per channel: FLOPs, parameters, products, activations.

    Records of equal counts share a term, which makes deep networks as cheap as shallow ones.
    """

    def __init__(self, groups: tuple[str, ...]) -> None:
        self.table = _CountTable(groups)
        self._pairs: dict[tuple[int, int, int], Integers] = defaultdict(_nothing)  # the third: groups of a convolution
        self._singles: dict[int, Integers] = defaultdict(_nothing)
        self._constant = _nothing()

    def add_layer(self, record: LayerRecord) -> None:
        """Add a layer: its weights and arithmetic, its bias or scales, what it reads and writes."""
        inputs, outputs = self.table.position(record.channels_in), self.table.position(record.channels_out)
        calls, stored = int(record.executed), int(record.first)
        positions = record.area_in if record.kind == "transposed" else record.area_out
        flops, params = calls * record.kernel_area * positions, stored * record.kernel_area
        if record.kind == "linear" and record.dimensions:
            self._add_over_widths(record)
            return
        if record.kind == "depthwise":
            self._singles[outputs] += [flops, params, 0, 0]
        elif any(count.varies for count in record.dimensions):
            self.add(record, record.dimensions, flops=flops, params=params)
        elif record.kind in WEIGHTED:
            self._pairs[inputs, outputs, record.n_conv_groups] += [flops, params, 0, 0]
        self._singles[outputs] += [0, stored * (int(record.bias) + record.parameters_per_channel), 0, 0]
        if record.kind in WEIGHTED:
            self._singles[outputs] += [0, 0, 0, calls * record.area_out]
            self._singles[inputs] += [0, 0, 0, calls * record.area_in]

    def _add_over_widths(self, record: LayerRecord) -> None:
        """Add a linear layer that is applied along channels, as when tokens are mixed: its rows depend on a width."""
        rows, depth, columns = record.dimensions
        calls, stored = int(record.executed), int(record.first)
        self.add(record, (rows, depth, columns), flops=calls)
        self.add(record, (depth, columns), params=stored)
        self.add(record, (columns,), params=stored * int(record.bias))
        for read_or_written in (depth, columns):
            self.add(record, (rows, read_or_written), activations=calls)

    def add_matmul(self, record: LayerRecord) -> None:
        """Add a product of two activations."""
        *batch, rows, depth, columns = record.dimensions
        self.add(record, record.dimensions, flops=1, products=1)
        for read_or_written in ((rows, depth), (depth, columns), (rows, columns)):
            self.add(record, (*batch, *read_or_written), activations=1)

    def add(
        self,
        record: LayerRecord,
        counts: Sequence[ChannelCount],
        *,
        flops: int = 0,
        params: int = 0,
        products: int = 0,
        activations: int = 0,
    ) -> None:
        """Add so much per product of channel counts.

        Raises
        ------
        UnknownLayerError
            When more than two of them depend on widths.
        """
        factor, varying = product(counts)
        values = np.array([flops, params, products, activations]) * factor
        if len(varying) > 2:
            raise UnknownLayerError(
                f"no cost rule for '{record.name}': {len(varying)} of its dimensions are pruned, at most two may be"
            )
        positions = [self.table.position(count) for count in varying]
        if len(positions) == 2:
            self._pairs[positions[0], positions[1], 1] += values
        elif positions:
            self._singles[positions[0]] += values
        else:
            self._constant += values

    def arrays(self) -> tuple[Integers, Integers]:
        """Columns of pairs, shape (6, n_pairs), the first two their counts; of channels, shape (4, n_counts)."""
        one = self.table.position(ChannelCount(1))
        rows = []
        for (first, second, n_conv_groups), values in self._pairs.items():
            if n_conv_groups > 1:  # its channel counts are constant: so is its product, which divides exactly
                each = self.table.constant(first) * self.table.constant(second) // n_conv_groups
                rows.append([one, one, *(each * values)])
            else:
                rows.append([first, second, *values])
        self._singles[one] += self._constant
        singles = np.zeros((4, len(self.table)), dtype=np.int64)
        for position, values in self._singles.items():
            singles[:, position] = values
        return np.array(rows, dtype=np.int64).reshape(-1, 6).T, singles


def _nothing() -> Integers:
    return np.zeros(4, dtype=np.int64)
