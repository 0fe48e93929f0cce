"""KernelModel: the fused kernels that an inference engine would run, for any plan, from its widths alone. Pure numpy.

Convolution, batch norm and activation are one kernel; a residual addition is read in the epilogue of the convolution
that comes last before it; concatenation is free. A product between activations and a norm whose statistics come from
the image are kernels of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hdapbench.arrays import Integers
from hdapbench.cost.records import ChannelCount, LayerRecord, product

_KERNEL_KINDS = {"conv": "conv", "depthwise": "dw", "linear": "fc", "pool": "pool", "global_pool": "gap"}
MATRIX_KINDS = ("conv", "dw", "fc", "mm")
PRODUCT_KINDS = ("conv", "fc", "mm")
"""Kinds that sum over all channels that they consume."""


@dataclass(frozen=True)
class Kernel:
    """One fused kernel.

    Attributes
    ----------
    kind
        ``conv``, ``dw`` (depthwise), ``fc``, ``mm`` (products between activations), ``pool``, ``gap`` (global average
        pool) or ``ew`` (elementwise). An ``mm`` is ``width_out`` products of ``height_out`` rows; with a ``stride``
        above one, of as many products as the stride goes into ``channels_in``.
    kernel_area
        Height times width of its window.
    residual
        Whether its epilogue also reads a tensor shaped like its output.
    block
        Groups of the removable residual block that it is part of: with no channel of any of them, it is not run.
    """

    name: str
    kind: str
    channels_in: ChannelCount
    channels_out: ChannelCount
    height_in: int
    width_in: int
    height_out: int
    width_out: int
    kernel_area: int
    stride: int
    residual: bool = False
    block: tuple[str, ...] = ()


@dataclass(frozen=True)
class KernelModel:
    """All kernels of a model, and their channels as functions of the groups' widths.

    Attributes
    ----------
    groups
        Names of the groups: the order of widths.
    sizes
        Channels of each group in the dense model, shape (n_groups,).
    kernels
        The kernels in order of execution.
    """

    groups: tuple[str, ...]
    sizes: Integers
    kernels: tuple[Kernel, ...]

    @classmethod
    def from_records(cls, records: Iterable[LayerRecord], sizes: Mapping[str, int]) -> KernelModel:
        """Kernels of layer records; ``sizes`` gives the groups in the order of widths."""
        fused = _Fusion()
        for record in records:
            if record.executed:
                fused.take(record)
            else:
                fused.skip()
        return cls(tuple(sizes), np.array(list(sizes.values()), dtype=np.int64), tuple(fused.kernels))

    def __len__(self) -> int:
        return len(self.kernels)

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits of all that latency depends on: groups, sizes and kernels."""
        digest = hashlib.sha256("\0".join(self.groups).encode())
        widths = np.stack([self.sizes, *np.eye(len(self.sizes), dtype=np.int64)])  # the dense model, each group alone
        for values in (self.sizes, *self.channels(widths), *self.table.values()):
            digest.update(np.ascontiguousarray(values).astype("U" if values.dtype.kind == "U" else "<i8").tobytes())
        return digest.hexdigest()[:16]

    def channels(self, widths: ArrayLike) -> tuple[Integers, Integers]:
        """Consumed and produced channels of every kernel, two arrays of shape (n_plans, n_kernels).

        Affine in the widths, whether a kernel is run (`are_run`) or not.
        """
        plans = np.atleast_2d(np.asarray(widths, dtype=np.int64))
        (constant_in, matrix_in), (constant_out, matrix_out) = self._counts
        return plans @ matrix_in.T + constant_in, plans @ matrix_out.T + constant_out

    def are_run(self, widths: ArrayLike) -> NDArray[np.bool_]:
        """Which kernels plans run, shape (n_plans, n_kernels): all but those of removed residual blocks."""
        plans = np.atleast_2d(np.asarray(widths, dtype=np.int64))
        found = np.ones((len(plans), len(self.kernels)), dtype=bool)
        if self._blocks and not plans.all():
            for groups, are_inside in self._blocks:
                found &= (plans[:, groups] > 0).any(axis=1, keepdims=True) | ~are_inside
        return found

    @cached_property
    def _blocks(self) -> list[tuple[list[int], NDArray[np.bool_]]]:
        """Groups of each removable block, and whether kernels lie in it, shape (n_kernels,)."""
        return [
            (
                [self.groups.index(name) for name in block],
                np.array([kernel.block == block for kernel in self.kernels]),
            )
            for block in dict.fromkeys(kernel.block for kernel in self.kernels if kernel.block)
        ]

    @cached_property
    def table(self) -> dict[str, NDArray[Any]]:
        """The kernels' fixed properties as arrays of shape (n_kernels,)."""
        return {
            "kind": np.array([kernel.kind for kernel in self.kernels]),
            "kernel_area": np.array([kernel.kernel_area for kernel in self.kernels], dtype=np.int64),
            "stride": np.array([kernel.stride for kernel in self.kernels], dtype=np.int64),
            "height_out": np.array([kernel.height_out for kernel in self.kernels], dtype=np.int64),
            "width_out": np.array([kernel.width_out for kernel in self.kernels], dtype=np.int64),
            "area_in": np.array([kernel.height_in * kernel.width_in for kernel in self.kernels], dtype=np.int64),
            "area_out": np.array([kernel.height_out * kernel.width_out for kernel in self.kernels], dtype=np.int64),
            "residual": np.array([int(kernel.residual) for kernel in self.kernels], dtype=np.int64),
        }

    @cached_property
    def _counts(self) -> tuple[tuple[Integers, Integers], tuple[Integers, Integers]]:
        def affine(counts: list[ChannelCount]) -> tuple[Integers, Integers]:
            constant = np.array([count.constant for count in counts], dtype=np.int64)
            rows = [[count.multiplicity.get(name, 0) for name in self.groups] for count in counts]
            return constant, np.array(rows, dtype=np.int64).reshape(len(counts), len(self.groups))

        return (
            affine([kernel.channels_in for kernel in self.kernels]),
            affine([kernel.channels_out for kernel in self.kernels]),
        )


class _Fusion:
    """Turns records into kernels one by one."""

    def __init__(self) -> None:
        self.kernels: list[Kernel] = []
        self._producer: list[int] = []  # record -> kernel whose output it passes on, -1 for none

    def skip(self) -> None:
        """Pass over a record that is never executed."""
        self._producer.append(-1)

    def take(self, record: LayerRecord) -> None:
        """Add a record: as a kernel of its own, or fused into one before it."""
        sources = [self._producer[number] if number >= 0 else -1 for number in record.inputs]
        last = max(sources, default=-1)
        if record.kind == "norm" and self._is_matrix(last):
            self._producer.append(last)
        elif record.kind == "add" and self._is_matrix(last) and not self.kernels[last].residual:
            self.kernels[last] = replace(self.kernels[last], residual=True)
            self._producer.append(last)
        elif record.kind == "concat":
            self._producer.append(-1)
        else:
            self.kernels.append(_kernel(record))
            self._producer.append(len(self.kernels) - 1)

    def _is_matrix(self, kernel: int) -> bool:
        return kernel >= 0 and self.kernels[kernel].kind in MATRIX_KINDS


def _kernel(record: LayerRecord) -> Kernel:
    """Kernel of a record that is fused into no other."""
    kernel = Kernel(
        name=record.name,
        kind=_KERNEL_KINDS.get(record.kind, "ew"),
        channels_in=record.channels_in,
        channels_out=record.channels_out,
        height_in=record.height_in,
        width_in=record.width_in,
        height_out=record.height_out,
        width_out=record.width_out,
        kernel_area=record.kernel_area,
        stride=record.stride,
        residual=record.kind == "add",
        block=() if record.block is None else record.block.groups,
    )
    if record.kind == "transposed":
        return _transposed(kernel)
    is_product = record.kind == "matmul" or (record.kind == "linear" and record.dimensions)
    return _products(kernel, record.dimensions) if is_product else kernel


def _transposed(kernel: Kernel) -> Kernel:
    """A transposed convolution, as a matrix product that makes a whole window of every position of its input."""
    return replace(
        kernel,
        kind="conv",
        channels_out=kernel.channels_out.scaled(kernel.kernel_area),
        height_out=kernel.height_in,
        width_out=kernel.width_in,
        kernel_area=1,
        stride=1,
    )


def _products(kernel: Kernel, dimensions: tuple[ChannelCount, ...]) -> Kernel:
    """Matrix products between activations, or by weights along channels, of (..., rows, depth, columns).

    A kernel has two counts that vary, depth and columns. Where the rows vary, the product is transposed, or, where the
    columns vary as well, rows and depth change places. Where the number of products varies (heads are pruned), depth
    and columns are those of all products together, and ``stride`` is the depth of one.
    """
    *batch, rows, depth, columns = dimensions
    n_products, varying = product(batch)
    stride = 1
    if rows.varies and not columns.varies:
        rows, columns = columns, rows
    elif rows.varies:
        rows, depth = depth, rows
    for count in varying:
        if not (depth.varies or columns.varies):
            stride = depth.constant
            depth, columns = (count.scaled(n_products * each.constant) for each in (depth, columns))
        elif depth.varies:  # heads and their width: timed as one product of all columns
            columns = count.scaled(n_products * columns.constant)
        else:
            depth = count.scaled(n_products * depth.constant)
        n_products = 1
    height, width = rows.constant, n_products
    return replace(
        kernel,
        kind="mm",
        channels_in=depth,
        channels_out=columns,
        height_in=height,
        width_in=width,
        height_out=height,
        width_out=width,
        stride=stride,
    )
