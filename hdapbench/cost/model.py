"""CostModel: exact FLOPs, parameters and bytes of any plan, from its widths alone. Pure numpy.

Every layer's channel counts are affine in the groups' widths, so arithmetic and parameters are bilinear:
``flops = n_out * n_in * kernel_area * area_out`` for convolutions and linear layers; depthwise ones lack ``n_in``. The
products of attention are affine: ``tokens**2`` times the channels of the queries, and of the values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.records import WEIGHTED, LayerRecord
from hdapbench.cost.terms import Terms
from hdapbench.groups import ResidualBlock

BYTES_PER_VALUE = 4
"""float32. Buffers such as batch norm's running statistics are no parameters and do not count."""


@dataclass(frozen=True)
class Costs:
    """Costs of plans, int64 arrays of shape (n_plans,).

    ``flops`` are multiply-accumulates at batch 1, of layers with weights and, unless the model leaves them out, of
    products between activations; ``activation_bytes`` what both read and write in float32; ``parameter_bytes`` the
    parameters in float32; ``product_flops`` those between activations, whether ``flops`` holds them or not.
    """

    flops: Integers
    params: Integers
    parameter_bytes: Integers
    activation_bytes: Integers
    product_flops: Integers


@dataclass(frozen=True)
class DenseCosts:
    """Costs of the dense model, as plain integers."""

    flops: int
    params: int
    parameter_bytes: int
    activation_bytes: int
    product_flops: int


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
    pair_first, pair_second, pair_flops, pair_params, pair_products, pair_activations
        What operations cost per product of two channel counts.
    single_flops, single_params, single_products, single_activations
        What they cost per channel. Products are multiply-accumulates between activations.
    counts_products
        Whether FLOPs hold the products.
    blocks
        The residual blocks that can be removed: their costs count in the model's as long as one of their groups keeps a
        channel.
    """

    groups: tuple[str, ...]
    sizes: Integers
    counts_constant: Integers  # (n_counts,) distinct channel counts of the model
    counts_coefficients: Integers  # (n_counts, n_groups)
    pair_first: Integers  # (n_pairs,) positions in the counts
    pair_second: Integers  # (n_pairs,)
    pair_flops: Integers  # (n_pairs,) multiply-accumulates per product of the two counts
    pair_params: Integers  # (n_pairs,)
    pair_products: Integers  # (n_pairs,)
    pair_activations: Integers  # (n_pairs,) values read and written
    single_flops: Integers  # (n_counts,) per channel
    single_params: Integers  # (n_counts,)
    single_products: Integers  # (n_counts,)
    single_activations: Integers  # (n_counts,)
    counts_products: bool = True
    blocks: tuple[BlockCosts, ...] = ()

    def __post_init__(self) -> None:
        self.sizes.flags.writeable = False  # handed to methods, and shared by all trials

    @classmethod
    def from_records(cls, records: Iterable[LayerRecord], sizes: Mapping[str, int]) -> CostModel:
        """Cost model of layer records; its FLOPs hold products between activations.

        Parameters
        ----------
        records
            What `record_layers` noted of a model.
        sizes
            Group -> channels in the dense model; their order is the order of widths.
        """
        terms, in_blocks = Terms(tuple(sizes)), defaultdict[ResidualBlock, list[LayerRecord]](list)
        for record in records:
            if record.block is not None:
                in_blocks[record.block].append(replace(record, block=None))
            if record.kind in WEIGHTED or record.kind in {"norm", "layer_norm"}:
                terms.add_layer(record)
            elif record.kind == "matmul":
                terms.add_matmul(record)
            elif record.kind == "parameter":
                terms.add(record, record.dimensions, params=1)
        pairs, singles = terms.arrays()
        constants, coefficients = terms.table.arrays()
        return cls(
            groups=tuple(sizes),
            sizes=np.array(list(sizes.values()), dtype=np.int64),
            counts_constant=constants,
            counts_coefficients=coefficients,
            pair_first=pairs[0],
            pair_second=pairs[1],
            pair_flops=pairs[2],
            pair_params=pairs[3],
            pair_products=pairs[4],
            pair_activations=pairs[5],
            single_flops=singles[0],
            single_params=singles[1],
            single_products=singles[2],
            single_activations=singles[3],
            blocks=tuple(
                BlockCosts(block.name, tuple(map(list(sizes).index, block.groups)), cls.from_records(inside, sizes))
                for block, inside in in_blocks.items()
            ),
        )

    def without_products(self) -> CostModel:
        """The same costs, but FLOPs without products between activations: the convention of many papers."""
        if not self.counts_products:
            return self
        return replace(
            self,
            pair_flops=self.pair_flops - self.pair_products,
            single_flops=self.single_flops - self.single_products,
            counts_products=False,
            blocks=tuple(replace(block, costs=block.costs.without_products()) for block in self.blocks),
        )

    def evaluate(self, widths: ArrayLike) -> Costs:
        """Costs of plans.

        Parameters
        ----------
        widths
            Kept channels per group, shape (n_plans, n_groups) or (n_groups,).
        """
        counts = self.channel_counts(widths)
        pairs = counts[self.pair_first] * counts[self.pair_second]  # (n_pairs, n_plans)
        flops, params, products, activations = self._exact(self._per_pair @ pairs + self._per_channel @ counts)
        for gone, block in self._removed(widths):
            costs = block.evaluate(widths)
            flops -= gone * costs.flops
            params -= gone * costs.params
            products -= gone * costs.product_flops
            activations -= gone * (costs.activation_bytes // BYTES_PER_VALUE)
        return Costs(flops, params, params * BYTES_PER_VALUE, activations * BYTES_PER_VALUE, products)

    def flops(self, widths: ArrayLike) -> Integers:
        """Multiply-accumulates of plans, shape (n_plans,); widths as for `evaluate`."""
        counts = self.channel_counts(widths)
        products = counts[self.pair_first] * counts[self.pair_second]
        flops = self._exact(self.pair_flops @ products + self.single_flops @ counts)
        for gone, block in self._removed(widths):
            flops -= gone * block.flops(widths)
        return flops

    def _removed(self, widths: ArrayLike) -> Iterator[tuple[NDArray[np.bool_], CostModel]]:
        """Blocks that some plans remove: which plans, shape (n_plans,), and what is left of the block's costs."""
        plans = np.atleast_2d(np.asarray(widths))
        if not self.blocks or plans.all():
            return
        for block in self.blocks:
            gone = np.asarray((plans[:, block.groups] == 0).all(axis=1))
            if gone.any():
                yield gone, block.costs

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

    @cached_property
    def _per_pair(self) -> Floats:
        """Rows of what `evaluate` sums over pairs, shape (4, n_pairs)."""
        return np.stack([self.pair_flops, self.pair_params, self.pair_products, self.pair_activations]).astype(float)

    @cached_property
    def _per_channel(self) -> Floats:
        """Rows of what `evaluate` sums over channel counts, shape (4, n_counts)."""
        return np.stack([self.single_flops, self.single_params, self.single_products, self.single_activations]).astype(
            float
        )

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
        """Multiply-accumulates with one channel left in every group: no plan that keeps all blocks needs fewer."""
        return int(self.flops(np.ones_like(self.sizes))[0])

    def narrowed(self, widths: ArrayLike) -> CostModel:
        """Cost model of the model pruned to these widths, shape (n_groups,): they are its dense ones."""
        return replace(self, sizes=np.array(widths, dtype=np.int64))


@dataclass(frozen=True)
class BlockCosts:
    """A residual block that can be removed, and its costs alone.

    Attributes
    ----------
    name
        Dotted name of the module.
    groups
        Positions of its channel groups: a plan with a width of 0 in all of them removes it.
    costs
        What its layers cost.
    """

    name: str
    groups: tuple[int, ...]
    costs: CostModel
