"""Fitting a board profile's free constants to measured latencies of known plans, with the error on plans left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.kernels import KernelModel
from hdapbench.errors import FleetError
from hdapbench.fleet.simulated.engine import device_latency_ms, kernel_times
from hdapbench.fleet.simulated.profile import Calibration, SkuProfile

LEAST_PLANS = 6
N_FOLDS = 5
PULL = 0.02
"""How far, relative to errors of latency, each logarithm is pulled to its start: what plans do not tell stays there."""
ROBUST_SCALE = 0.1
MOST_FACTOR = 1e4
_STEP = 1e-2  # the engine's choices make latency a staircase in its constants: smaller steps see flat ground


@dataclass(frozen=True)
class MeasuredModel:
    """Plans of one model and their latencies.

    Attributes
    ----------
    name
        The model.
    kernels
        Its fused kernels.
    widths
        Kept channels per group, shape (n_plans, n_groups).
    latency_ms
        Shape (n_plans,), all positive.
    """

    name: str
    kernels: KernelModel
    widths: Integers
    latency_ms: Floats

    def __len__(self) -> int:
        return len(self.widths)

    def subset(self, rows: NDArray[np.bool_]) -> MeasuredModel:
        """The plans where a mask is true."""
        return MeasuredModel(self.name, self.kernels, self.widths[rows], self.latency_ms[rows])


def calibrate(
    profile: SkuProfile,
    models: Sequence[MeasuredModel],
    *,
    precision: str,
    source: str,
    n_devices: int = 1,
    seed: int = 0,
) -> SkuProfile:
    """Profile with its free constants fitted, and the report of the held-out error in ``calibration``.

    Fitted are throughput (``efficiency``), bandwidth (``memory_bytes_per_cycle``), ``launch_us``, ``prologue_cycles``,
    and, where models have such kernels, ``depthwise_efficiency`` and ``winograd_gain``: robust least squares on
    logarithms of simulated over measured latency of the nominal board. Folds are of plans; with at least three models
    each is also left out whole.

    Parameters
    ----------
    source
        What was measured, for the report.
    n_devices
        Devices that the latencies are averages of.
    seed
        Of the folds.

    Raises
    ------
    FleetError
        When there are too few plans, or the board does not compute in this precision.
    """
    profile.check_precision(precision)
    n_plans = sum(map(len, models))
    if n_plans < LEAST_PLANS:
        raise FleetError(
            f"{n_plans} plans are too few for a calibration; measure {LEAST_PLANS} or more, of several shares"
        )
    fold = np.random.default_rng(seed).permutation(n_plans) % min(N_FOLDS, n_plans)
    predicted = np.empty(n_plans)
    for number in range(int(fold.max()) + 1):
        out = fold == number
        fitted = _fit(profile, _masked(models, ~out), precision)
        predicted[out] = _predicted(fitted, _masked(models, out), precision)
    measured = np.concatenate([model.latency_ms for model in models])
    error = np.abs(predicted / measured - 1)
    before = np.abs(_predicted(profile, models, precision) / measured - 1)
    final = _fit(profile, models, precision)
    report = Calibration(
        source=source,
        precision=precision,
        n_devices=n_devices,
        n_plans=n_plans,
        models=tuple(model.name for model in models),
        mape=float(error.mean()),
        within_10_share=float((error <= 0.1).mean()),
        rank_correlation=_rank_correlation(predicted, measured),
        mape_before=float(before.mean()),
        mape_new_models=_new_models(profile, models, precision),
        fitted=_Constants(profile, models, precision).values(final),
    )
    return final.model_copy(update={"calibration": report})


@dataclass(frozen=True)
class _Constants:
    """The free constants of a profile as logarithms of factors."""

    profile: SkuProfile
    models: Sequence[MeasuredModel]
    precision: str

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Constants that these models say something about."""
        kernels = [kernel for model in self.models for kernel in model.kernels.kernels]
        found = ["efficiency", "memory_bytes_per_cycle", "launch_us", "prologue_cycles"]
        if any(kernel.kind == "dw" for kernel in kernels):
            found.append("depthwise_efficiency")
        if self.precision != "tc16" and any(k.kind == "conv" and k.kernel_area == 9 and k.stride == 1 for k in kernels):
            found.append("winograd_gain")
        return tuple(found)

    def values(self, profile: SkuProfile) -> dict[str, float]:
        """Constants of a profile."""
        return {
            name: profile.efficiency[self.precision] if name == "efficiency" else float(getattr(profile, name))
            for name in self.names
        }

    def at(self, logs: Floats) -> SkuProfile:
        """Profile with each constant times the exponential of its logarithm."""
        start = self.values(self.profile)
        values = {name: start[name] * float(np.exp(log)) for name, log in zip(self.names, logs, strict=True)}
        values["efficiency"] = self.profile.efficiency | {self.precision: values["efficiency"]}  # type: ignore[assignment]
        if "depthwise_efficiency" in values:
            values["depthwise_efficiency"] = min(values["depthwise_efficiency"], 1.0)
        return self.profile.model_copy(update=values)

    def start(self, ratio: float) -> Floats:
        """Logarithms by which everything takes ``ratio`` times as long."""
        slower = {"launch_us": 1.0, "prologue_cycles": 1.0, "efficiency": -1.0, "memory_bytes_per_cycle": -1.0}
        return np.asarray([slower.get(name, 0.0) * np.log(ratio) for name in self.names])


def _fit(profile: SkuProfile, models: Sequence[MeasuredModel], precision: str) -> SkuProfile:
    """Profile of least robust error, from a start that is right on the whole."""
    from scipy.optimize import least_squares

    constants = _Constants(profile, models, precision)
    wanted = np.log(np.concatenate([model.latency_ms for model in models]))
    ratio = float(np.exp(np.median(wanted - np.log(_predicted(profile, models, precision)))))
    start = constants.start(ratio)
    limit = np.log(MOST_FACTOR)

    def residual(logs: Floats) -> Floats:
        error = np.log(_predicted(constants.at(logs), models, precision)) - wanted
        return np.concatenate([error, PULL * (logs - start)])

    found = least_squares(
        residual,
        np.clip(start, -limit, limit),
        bounds=(-limit - 1e-9, limit + 1e-9),
        diff_step=_STEP,
        x_scale=1.0,
        loss="soft_l1",
        f_scale=ROBUST_SCALE,
        max_nfev=60,
    )
    return constants.at(found.x)


def _predicted(profile: SkuProfile, models: Sequence[MeasuredModel], precision: str) -> Floats:
    """Latency in ms of all plans on the nominal board, shape (n_plans,)."""
    one = np.ones(1)
    parts = [
        device_latency_ms(
            kernel_times(model.kernels, model.widths, profile, precision), profile.launch_us / 1000, one, one, one
        )[0]
        for model in models
        if len(model)
    ]
    return np.concatenate(parts)


def _masked(models: Sequence[MeasuredModel], mask: NDArray[np.bool_]) -> list[MeasuredModel]:
    """The plans where a mask over all models' plans is true; models of which none is left stay away."""
    ends = np.cumsum([len(model) for model in models])
    parts = np.split(mask, ends[:-1])
    return [model.subset(rows) for model, rows in zip(models, parts, strict=True) if rows.any()]


def _new_models(profile: SkuProfile, models: Sequence[MeasuredModel], precision: str) -> float | None:
    """Mean over models left out whole of the mean absolute relative error; None with fewer than three."""
    if len(models) < 3:
        return None
    errors = []
    for place, model in enumerate(models):
        others = [other for position, other in enumerate(models) if position != place]
        predicted = _predicted(_fit(profile, others, precision), [model], precision)
        errors.append(float(np.abs(predicted / model.latency_ms - 1).mean()))
    return float(np.mean(errors))


def _rank_correlation(predicted: Floats, measured: Floats) -> float:
    from scipy.stats import spearmanr

    if min(np.ptp(predicted), np.ptp(measured)) == 0:
        return 0.0
    return float(spearmanr(predicted, measured).statistic)
