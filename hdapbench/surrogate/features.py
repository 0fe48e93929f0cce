"""What kernels work, move and pad, as linear features: per class of kernels of one shape. Pure numpy.

Kernels of one shape (kind, window, stride, extents, residual) take the same time for the same channels, whatever their
name: features are summed over such kernels, so that a surrogate learns one cost per shape and not one per layer.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.kernels import MATRIX_KINDS, PRODUCT_KINDS, KernelModel
from hdapbench.cost.tiling import GPU_TILES, Tiling

BLOCK_TERMS = ("pad_work", "pad_output", "plain_work", "plain_input", "plain_output")

WAVE_TILES = ((128, 64), (64, 32), (32, 32))
"""Rows and columns of tiles whose waves over the multiprocessors are terms (NVIDIA, "Matrix Multiplication Background
User's Guide", wave quantization)."""


@dataclass(frozen=True)
class KernelFeatures:
    """Columns that latency is linear in, for whole plans and for single kernels.

    The terms of a kernel are its multiply-accumulates, the values it reads, its weights or second factors, the values
    it writes (and reads again, with a residual), and its multiply-accumulates with the output channels padded to each
    tile; on more than one multiprocessor also with tiles padded to whole waves over them, per tile and the least of
    these. Where a runtime has blocked kernels, also: what these work and write in vain, with channels padded to whole
    blocks, and what the slower path works, gathers (its input once per tap) and writes for counts that they do not
    take. A column is one term summed over the kernels of one shape, relative to the dense model's value of that term
    over the column's family: all kernels of equal kind, window and stride. Weights of one family are comparable,
    whatever the shape.

    Attributes
    ----------
    kernels
        The kernels.
    tiling
        What the fleet's runtimes pad channels to.
    """

    kernels: KernelModel
    tiling: Tiling = GPU_TILES

    @property
    def term_names(self) -> tuple[str, ...]:
        """Names of the terms."""
        padded = tuple(f"tile{tile}" for tile in self.tiling.tiles)
        waves = (*(f"wave{rows}x{columns}" for rows, columns in WAVE_TILES), "wave")
        return (
            *("work", "input", "weights", "output", *padded),
            *(BLOCK_TERMS if self.tiling.block else ()),
            *(waves if self.tiling.n_multiprocessors > 1 else ()),
        )

    @cached_property
    def shape_of(self) -> Integers:
        """Class of kernels of equal shape that each kernel belongs to, shape (n_kernels,)."""
        table = self.kernels.table
        names = ("kind", "kernel_area", "stride", "height_out", "width_out", "area_in", "area_out", "residual")
        return _classes(zip(*(table[name].tolist() for name in names), strict=True))

    @cached_property
    def family_of(self) -> Integers:
        """Class of kernels of equal kind, window and stride, shape (n_kernels,)."""
        table = self.kernels.table
        return _classes(zip(*(table[name].tolist() for name in ("kind", "kernel_area", "stride")), strict=True))

    def terms(self, widths: ArrayLike) -> Floats:
        """Terms of every kernel of plans, shape (n_terms, n_plans, n_kernels)."""
        in_channels, out_channels = self.kernels.channels(widths)
        return self._terms(in_channels.astype(float), out_channels.astype(float), slice(None))

    def pair_terms(self, number: int, pairs: ArrayLike) -> Floats:
        """Terms of one kernel for (consumed, produced) channels of shape (n_pairs, 2); shape (n_terms, n_pairs)."""
        in_channels, out_channels = np.asarray(pairs, dtype=float).reshape(-1, 2).T
        return self._terms(in_channels[:, None], out_channels[:, None], slice(number, number + 1))[:, :, 0]

    def columns(self, widths: ArrayLike) -> Floats:
        """Columns of plans, shape (n_plans, n_columns)."""
        sums = self.terms(widths) @ self._membership  # (n_terms, n_plans, n_shapes)
        return np.asarray(sums[self.column_term, :, self.column_shape].T / self._column_unit)

    def per_kernel(self, coefficients: Floats) -> Floats:
        """Coefficients of columns, shape (n_columns, ...), as ones of terms, shape (n_terms, n_kernels, ...)."""
        shape_weights = np.zeros((len(self.term_names), self._membership.shape[1], *coefficients.shape[1:]))
        unit = self._column_unit.reshape(-1, *[1] * (coefficients.ndim - 1))
        shape_weights[self.column_term, self.column_shape] = coefficients / unit
        return shape_weights[:, self.shape_of]

    @property
    def column_term(self) -> Integers:
        """Term of each column, shape (n_columns,)."""
        return self._layout[0]

    @property
    def column_shape(self) -> Integers:
        """Class of equal shape of each column, shape (n_columns,)."""
        return self._layout[1]

    @cached_property
    def column_family(self) -> Integers:
        """Which columns hold the same term of the same family, shape (n_columns,): equal numbers are comparable."""
        return _classes(zip(self.column_term.tolist(), self._shape_family[self.column_shape].tolist(), strict=True))

    @cached_property
    def _layout(self) -> tuple[Integers, Integers]:
        """Term and shape of each column: those that are not zero in the dense model."""
        term, shape = np.nonzero(self._dense)
        return term, shape

    @cached_property
    def _dense(self) -> Floats:
        """Every term of the dense model summed over kernels of equal shape, shape (n_terms, n_shapes).

        Terms of both paths: what the dense model does on one of them is the unit for both.
        """
        in_channels, out_channels = self.kernels.channels(self.kernels.sizes)
        terms = self._terms(in_channels.astype(float), out_channels.astype(float), slice(None), both_paths=True)
        return np.asarray(terms[:, 0] @ self._membership)

    @cached_property
    def _column_unit(self) -> Floats:
        """Dense sum of a column's term over its family, shape (n_columns,)."""
        total = np.bincount(self.column_family, weights=self._dense[self.column_term, self.column_shape])
        return np.asarray(total[self.column_family], dtype=np.float64)

    @cached_property
    def _membership(self) -> Floats:
        """One where a kernel is of a shape, shape (n_kernels, n_shapes)."""
        return np.eye(int(self.shape_of.max()) + 1)[self.shape_of]

    @cached_property
    def _shape_family(self) -> Integers:
        family = np.zeros(int(self.shape_of.max()) + 1, dtype=np.int64)
        family[self.shape_of] = self.family_of
        return family

    def _terms(self, in_channels: Floats, out_channels: Floats, kernels: slice, *, both_paths: bool = False) -> Floats:
        """Terms for channel counts whose last axis runs over the picked kernels."""
        table = {name: values[kernels] for name, values in self.kernels.table.items()}
        matrix = np.isin(table["kind"], MATRIX_KINDS).astype(float)
        is_product = np.isin(table["kind"], PRODUCT_KINDS)
        heads = np.where((table["kind"] == "mm") & (table["stride"] > 1), in_channels / table["stride"], 1.0)
        in_channels, out_channels = in_channels / heads, out_channels / heads
        table |= {name: table[name] * heads for name in ("area_in", "area_out")}
        n_products = np.where(table["kind"] == "mm", table["width_out"], 1) * heads
        depth = np.where(is_product, in_channels, 1.0) * table["kernel_area"]
        passes = 1 + table["residual"]
        terms = np.empty((len(self.term_names), *out_channels.shape))
        terms[0] = out_channels * depth * table["area_out"]
        terms[1] = in_channels * table["area_in"]
        terms[2] = out_channels * depth * n_products * matrix
        terms[3] = out_channels * table["area_out"] * passes
        for position, tile in enumerate(self.tiling.tiles, start=4):
            terms[position] = np.ceil(out_channels / tile) * tile * depth * table["area_out"] * matrix
        if self.tiling.block:
            block, first = self.tiling.block, 4 + len(self.tiling.tiles)
            is_conv, convolves = table["kind"] == "conv", np.isin(table["kind"], ("conv", "dw"))
            # Few input channels, such as an image's, are read as they are.
            whole = np.where(in_channels < block, in_channels, np.ceil(in_channels / block) * block)
            padded = np.ceil(out_channels / block) * block
            divisible = (in_channels % self.tiling.divisor == 0) | ((in_channels < block) & is_conv)
            padded_work = padded * np.where(is_conv, whole, 1.0) * table["kernel_area"] * table["area_out"]
            padded_output = padded * table["area_out"] * passes
            if both_paths:
                blocked = plain = np.broadcast_to(convolves, out_channels.shape)
                excess = (padded_work, padded_output)
            else:
                blocked, plain = convolves & divisible, convolves & ~divisible
                excess = (padded_work - terms[0], padded_output - terms[3])
            terms[first : first + 2] = [blocked * value for value in excess]
            terms[first + 2] = plain * terms[0]
            terms[first + 3] = plain * depth * table["area_out"]
            terms[first + 4] = plain * terms[3]
        if self.tiling.n_multiprocessors > 1:
            first = len(self.term_names) - len(WAVE_TILES) - 1
            for position, (rows, columns) in enumerate(WAVE_TILES, start=first):
                blocks = n_products * np.ceil(table["area_out"] / n_products / rows) * np.ceil(out_channels / columns)
                waves = np.ceil(blocks / self.tiling.n_multiprocessors)
                terms[position] = waves * self.tiling.n_multiprocessors * rows * columns * depth * is_product
            terms[-1] = terms[first:-1].min(axis=0)
        return terms


def aggregates(kernels: KernelModel, widths: ArrayLike, tiling: Tiling = GPU_TILES) -> Floats:
    """Kept shares, and terms summed over every family of kernels, relative to the dense model: inputs of trees.

    Shape (n_plans, n_groups + n_sums), where sums that are zero in the dense model are left out.
    """
    features = KernelFeatures(kernels, tiling)
    family = np.eye(int(features.family_of.max()) + 1)[features.family_of]
    sums, dense = (
        np.moveaxis(features.terms(plans) @ family, 1, 0).reshape(-1, len(features.term_names) * family.shape[1])
        for plans in (widths, kernels.sizes)
    )  # (n_plans, n_terms * n_families)
    present = dense[0] > 0
    return np.concatenate([kept_shares(kernels, widths), sums[:, present] / dense[:, present]], axis=1)


def kept_shares(kernels: KernelModel, widths: ArrayLike) -> Floats:
    """Kept share of every group, shape (n_plans, n_groups): inputs of the public recipe."""
    return np.asarray(np.atleast_2d(np.asarray(widths, dtype=float)) / kernels.sizes)


def _classes(keys: Iterable[Hashable]) -> Integers:
    """Number of each key's class, in order of first appearance."""
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.int64)
