"""A small network of convolutions and a world that times it, for tests of surrogates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hdapbench.cost.kernels import KernelModel
from hdapbench.cost.model import CostModel
from hdapbench.cost.records import ChannelCount, LayerRecord
from hdapbench.surrogate.measured import MeasuredPlans

SIZES = {"a": 64, "b": 96, "c": 128, "d": 128, "e": 256}
N_CLUSTERS = 4
WEIGHTS = np.array([0.4, 0.3, 0.2, 0.1])
CLUSTER_SPEED = np.array([1.0, 1.3, 0.7, 2.0])


def records() -> tuple[LayerRecord, ...]:
    """Two 3x3 convolutions, a residual block whose kernels share a shape, a depthwise one, pooling, a classifier."""
    a, b, c, d, e = (ChannelCount(0, {name: 1}) for name in SIZES)
    return (
        LayerRecord("conv1", "conv", (-1,), ChannelCount(3), a, 16, 16, 16, 16, kernel_area=9),
        LayerRecord("conv2", "conv", (0,), a, b, 16, 16, 16, 16, kernel_area=9),
        LayerRecord("conv3", "conv", (1,), b, c, 16, 16, 8, 8, kernel_area=1, stride=2),
        LayerRecord("conv4", "conv", (2,), c, d, 8, 8, 8, 8, kernel_area=1),
        LayerRecord("conv5", "conv", (3,), d, c, 8, 8, 8, 8, kernel_area=1),
        LayerRecord("add", "add", (2, 4), c, c, 8, 8, 8, 8),
        LayerRecord("dw", "depthwise", (5,), c, c, 8, 8, 8, 8, kernel_area=9),
        LayerRecord("conv6", "conv", (6,), c, e, 8, 8, 8, 8, kernel_area=1),
        LayerRecord("pool", "global_pool", (7,), e, e, 8, 8, 1, 1, kernel_area=64),
        LayerRecord("fc", "linear", (8,), e, ChannelCount(10)),
    )


def small_model() -> tuple[CostModel, KernelModel]:
    """Costs and kernels of the network."""
    return CostModel.from_records(records(), SIZES), KernelModel.from_records(records(), SIZES)


def staircase_ms(kernels: KernelModel, widths: np.ndarray) -> np.ndarray:
    """Latency in ms on a device that works in tiles of 32 channels and loses a little by every kernel."""
    in_channels, out_channels = (counts.astype(float) for counts in kernels.channels(widths))
    table = kernels.table
    depth = np.where(np.isin(table["kind"], ("conv", "fc")), in_channels, 1.0) * table["kernel_area"]
    work = np.where(table["kind"] == "gap", out_channels, np.ceil(out_channels / 32) * 32) * depth * table["area_out"]
    moved = in_channels * table["area_in"] + out_channels * table["area_out"]
    return np.asarray(0.05 + (2e-7 * work + 1e-6 * moved + 0.004).sum(axis=1))


def random_widths(n_plans: int, seed: int, *, least: float = 0.05) -> np.ndarray:
    """Widths with log-uniform shares, shape (n_plans, n_groups)."""
    sizes = np.array(list(SIZES.values()))
    shares = least ** np.random.default_rng(seed).random((n_plans, len(sizes)))
    return np.maximum(1, np.rint(shares * sizes)).astype(np.int64)


def measured_world(
    n_plans: int,
    *,
    seed: int = 0,
    noise: float = 0.0,
    latency_ms: Callable[[KernelModel, np.ndarray], np.ndarray] = staircase_ms,
    widths: np.ndarray | None = None,
) -> MeasuredPlans:
    """Plans measured on four clusters that differ in speed."""
    _, kernels = small_model()
    plans = random_widths(n_plans, seed) if widths is None else widths
    errors = np.exp(noise * np.random.default_rng([seed, 1]).standard_normal((len(plans), N_CLUSTERS)))
    return MeasuredPlans(kernels, plans, latency_ms(kernels, plans)[:, None] * CLUSTER_SPEED * errors, WEIGHTS)
