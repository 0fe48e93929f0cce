"""A board's inference engine, modelled: widths -> time of every kernel on the nominal board. Pure numpy.

The reference model of docs/fleets.md: implicit-GEMM tiles with split-K and wave quantisation, Winograd for 3x3, a
roofline against DRAM. The engine is built on the nominal board: it takes the fastest candidate there, and every device
runs that choice. A device is three multipliers on launch, compute and memory time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.kernels import PRODUCT_KINDS, KernelModel
from hdapbench.fleet.simulated.profile import SkuProfile

_GENERIC_TILES = (
    (128, 128, 8, 1.00),
    (128, 64, 8, 0.94),
    (64, 64, 8, 0.84),
    (128, 32, 8, 0.80),
    (64, 32, 8, 0.70),
    (32, 32, 8, 0.55),
)
_TENSOR_CORE_TILES = (
    (256, 64, 16, 0.95),
    (128, 128, 16, 1.00),
    (128, 64, 16, 0.86),
    (64, 64, 16, 0.70),
    (64, 32, 16, 0.50),
)
_SPLITS = (1, 2, 4, 8)
_PAIRS_AT_A_TIME = 1 << 14  # about 30 candidates each: 4 MB per intermediate array
_MANY_DEVICES = 4096
_NUMBERS_AT_A_TIME = 1 << 22
_DEVICES_AT_A_TIME = 1 << 16
_BYTES = {"fp32": 4, "fp16": 2, "tc16": 2}


@dataclass(frozen=True)
class SoftwareStack:
    """What an engine of another software generation does differently.

    Attributes
    ----------
    narrow_tile_factor
        Tiles narrower than 128 columns are wider by this factor.
    depthwise_slowdown
        Factor on the compute time of depthwise kernels.
    """

    narrow_tile_factor: float = 1.0
    depthwise_slowdown: float = 1.0


CURRENT_STACK = SoftwareStack()
OLD_STACK = SoftwareStack(narrow_tile_factor=1.5)
"""The older stack of the reference study: another tile menu."""


@dataclass(frozen=True)
class KernelTimes:
    """Compute and memory time of every kernel on the nominal board, in ms, shape (n_plans, n_kernels).

    ``n_run`` is the number of kernels that plans run, shape (n_plans,); the times of others are 0.
    """

    compute_ms: Floats
    memory_ms: Floats
    n_run: Integers


@dataclass(frozen=True)
class _Matrices:
    """Sizes of the matrix products behind convolutions, arrays of shape (n_shapes,)."""

    n_products: Floats
    rows: Floats  # output positions of each product
    columns: Floats  # output channels, padded
    depth: Floats  # input channels times kernel_area, padded
    bytes_moved: Floats
    winograd: bool
    tiles_2x2: Floats  # Winograd output tiles
    in_channels: Floats


def tile_menu(precision: str, stack: SoftwareStack = CURRENT_STACK) -> tuple[tuple[float, int, int, float], ...]:
    """Tiles (rows, columns, depth, relative efficiency) that the engine chooses from."""
    tiles = _TENSOR_CORE_TILES if precision == "tc16" else _GENERIC_TILES
    return tuple((m, int(n * stack.narrow_tile_factor) if n < 128 else n, k, e) for m, n, k, e in tiles)


def kernel_times(
    kernels: KernelModel,
    widths: ArrayLike,
    profile: SkuProfile,
    precision: str,
    *,
    stack: SoftwareStack = CURRENT_STACK,
) -> KernelTimes:
    """Compute and memory time of every kernel of plans on the nominal board, at batch 1.

    Parameters
    ----------
    widths
        Kept channels per group, shape (n_plans, n_groups).
    precision
        ``fp32``, ``fp16`` or ``tc16`` (tensor cores; channels padded to multiples of 8).
    stack
        The software generation; each builds its engine with its own menu.

    Raises
    ------
    FleetError
        When the board does not compute in this precision.
    """
    profile.check_precision(precision)
    in_channels, out_channels = kernels.channels(widths)
    are_run = kernels.are_run(widths)
    compute = np.zeros(in_channels.shape)
    memory = np.zeros(in_channels.shape)
    for number in range(len(kernels)):
        # Plans share widths: each distinct pair of channel counts is timed once.
        plans = are_run[:, number]
        codes, back = np.unique(in_channels[plans, number] << 32 | out_channels[plans, number], return_inverse=True)
        pairs = np.stack([codes >> 32, codes & 0xFFFFFFFF]).astype(float)
        parts = [
            _kernel_cost(kernels, number, pairs[:, first : first + _PAIRS_AT_A_TIME], profile, precision, stack)
            for first in range(0, max(len(codes), 1), _PAIRS_AT_A_TIME)
        ]
        compute[plans, number] = (np.concatenate([cycles for cycles, _ in parts]) / profile.cycles_per_ms)[back]
        memory[plans, number] = (np.concatenate([moved for _, moved in parts]) / profile.bytes_per_ms)[back]
    return KernelTimes(compute, memory, are_run.sum(axis=1))


def device_latency_ms(times: KernelTimes, launch_ms: float, alpha: Floats, beta: Floats, gamma: Floats) -> Floats:
    """Latency of plans on devices, shape (n_devices, n_plans).

    ``sum over kernels of launch * alpha + max(beta * compute, gamma * memory)``. Many devices are not asked kernel by
    kernel: with a plan's kernels sorted by compute over memory time, a device's compute-bound kernels are all those
    above ``gamma / beta``, and their sums are looked up.

    Parameters
    ----------
    launch_ms
        Launch time of one kernel on the nominal board.
    alpha, beta, gamma
        Multipliers of launch, compute and memory time, shape (n_devices,).
    """
    n_plans, n_kernels = times.compute_ms.shape
    latency = np.empty((len(alpha), n_plans))
    if len(alpha) < _MANY_DEVICES:
        step = max(1, _NUMBERS_AT_A_TIME // max(n_plans * n_kernels, 1))
        for first in range(0, len(alpha), step):
            part = slice(first, first + step)
            bound = np.maximum(
                beta[part, None, None] * times.compute_ms[None], gamma[part, None, None] * times.memory_ms[None]
            )  # (n_devices in this step, n_plans, n_kernels)
            latency[part] = bound.sum(2)
    else:
        tables = [_bound_sums(*row) for row in zip(times.compute_ms, times.memory_ms, strict=True)]
        for first in range(0, len(alpha), _DEVICES_AT_A_TIME):
            part = slice(first, first + _DEVICES_AT_A_TIME)
            ratio = gamma[part] / beta[part]
            for plan, (border, compute, memory) in enumerate(tables):
                place = np.searchsorted(border, ratio)
                latency[part, plan] = beta[part] * compute[place] + gamma[part] * memory[place]
    latency += times.n_run * launch_ms * alpha[:, None]
    return latency


def compute_to_memory(compute_ms: Floats, memory_ms: Floats) -> Floats:
    """Compute over memory time, of their shape, infinite where nothing is moved.

    DRAM binds devices with ``gamma / beta`` above it.
    """
    border = np.full(np.shape(compute_ms), np.inf)
    np.divide(compute_ms, memory_ms, out=border, where=np.asarray(memory_ms) > 0)
    return border


def _bound_sums(compute_ms: Floats, memory_ms: Floats) -> tuple[Floats, Floats, Floats]:
    """Sorted borders of one plan's kernels; compute time at or above each, memory time below it."""
    border = compute_to_memory(compute_ms, memory_ms)
    order = np.argsort(border, kind="stable")
    compute = np.concatenate([np.cumsum(compute_ms[order][::-1])[::-1], [0.0]])
    memory = np.concatenate([[0.0], np.cumsum(memory_ms[order])])
    return border[order], compute, memory


def _kernel_cost(
    kernels: KernelModel,
    number: int,
    pairs: Floats,
    profile: SkuProfile,
    precision: str,
    stack: SoftwareStack,
) -> tuple[Floats, Floats]:
    """Cycles and bytes of one kernel for channel pairs of shape (2, n_pairs)."""
    kernel = kernels.kernels[number]
    value_bytes = _BYTES[precision]
    is_mm = kernel.kind == "mm"
    heads = pairs[0] / kernel.stride if is_mm and kernel.stride > 1 else np.ones_like(pairs[0])
    pairs = pairs / heads
    area_in, area_out = kernel.height_in * kernel.width_in * heads, kernel.height_out * kernel.width_out * heads
    n_products = kernel.width_out * heads if is_mm else heads
    unpadded = pairs[1]
    in_channels, out_channels = np.ceil(pairs / 8) * 8 if precision == "tc16" else pairs
    if kernel.kind not in PRODUCT_KINDS:
        rate = profile.fma_per_cycle["fp32"] * profile.n_multiprocessors * profile.depthwise_efficiency
        depthwise = kernel.kind == "dw"
        worked = np.ceil(unpadded / 32) * 32 * stack.depthwise_slowdown if depthwise else unpadded
        weights = out_channels * kernel.kernel_area if depthwise else 0.0
        cycles = worked * area_out * kernel.kernel_area / rate + profile.prologue_cycles
        return cycles, value_bytes * (in_channels * area_in + weights + out_channels * area_out)
    depth = in_channels * kernel.kernel_area
    outputs = out_channels * area_out * (2 if kernel.residual else 1)
    winograd = kernel.kernel_area == 9 and kernel.stride == 1 and kernel.kind == "conv" and precision != "tc16"
    shape = _Matrices(
        n_products=n_products,
        rows=area_out / n_products,
        columns=out_channels,
        depth=depth,
        bytes_moved=value_bytes * (in_channels * area_in + n_products * out_channels * depth + outputs),
        winograd=winograd,
        tiles_2x2=np.full_like(out_channels, np.ceil(kernel.height_out / 2) * np.ceil(kernel.width_out / 2)),
        in_channels=in_channels,
    )
    return _fastest_candidate(shape, profile, precision, tile_menu(precision, stack))


def _fastest_candidate(
    shape: _Matrices, profile: SkuProfile, precision: str, menu: tuple[tuple[float, int, int, float], ...]
) -> tuple[Floats, Floats]:
    """Cycles and bytes of the candidate with the least roofline time on the nominal board; the first wins ties."""
    n_shapes = len(shape.columns)
    tile_rows, tile_columns, tile_depth, relative = np.array(menu, dtype=float).T[:, :, None, None]
    split = np.array(_SPLITS, dtype=float)[:, None]
    throughput = profile.fma_per_cycle[precision] * profile.efficiency[precision]
    steps = np.ceil(np.ceil(shape.depth / tile_depth) / split)  # (n_tiles, n_splits, n_shapes)
    blocks = shape.n_products * np.ceil(shape.rows / tile_rows) * np.ceil(shape.columns / tile_columns)
    per_sm = np.ceil(blocks * split / profile.n_multiprocessors)
    work = per_sm * tile_rows * tile_columns * tile_depth * steps
    time = work / (throughput * relative * _hiding(per_sm)) + profile.prologue_cycles
    cycles = np.where((split == 1) | (steps >= 4), time, np.inf)
    cycles = cycles.reshape(len(menu) * len(_SPLITS), n_shapes)  # tiles outer, splits inner
    outputs = shape.n_products * shape.rows * shape.columns
    partial_sums = np.where(split == 1, 0.0, 8.0 * outputs * split)  # (n_splits, n_shapes)
    moved = np.tile(shape.bytes_moved + partial_sums, (len(menu), 1))
    if shape.winograd:
        steps = np.ceil(shape.in_channels / tile_depth)
        blocks = 16 * np.ceil(shape.tiles_2x2 / tile_rows) * np.ceil(shape.columns / tile_columns)
        per_sm = np.ceil(blocks / profile.n_multiprocessors)  # (n_tiles, 1, n_shapes)
        work = per_sm * tile_rows * tile_columns * tile_depth * steps
        gain = 2.25 / profile.winograd_gain
        time = work / (throughput * relative * _hiding(per_sm)) * gain + 2 * profile.prologue_cycles
        transforms = 8 * _BYTES[precision] * shape.tiles_2x2 * (shape.in_channels + shape.columns)
        cycles = np.concatenate([cycles, time.reshape(len(menu), n_shapes)])
        moved = np.concatenate([moved, np.tile(shape.bytes_moved + transforms, (len(menu), 1))])
    best = np.argmin(np.maximum(cycles / profile.cycles_per_ms, moved / profile.bytes_per_ms), axis=0)
    every = np.arange(n_shapes)
    return cycles[best, every], moved[best, every]


def _hiding(per_sm: Floats) -> Floats:
    """Share of peak that the number of blocks on a multiprocessor allows: latency hiding."""
    return np.where(per_sm <= 1, 0.65, np.where(per_sm <= 2, 0.85, 1.0))
