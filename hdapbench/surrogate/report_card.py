"""How good a surrogate is: on plans and devices that it has not seen, by training plans, and at an optimum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hdapbench.arrays import Floats
from hdapbench.surrogate.fit import LEAST_PLANS, SurrogateName, fit_surrogate
from hdapbench.surrogate.measured import MeasuredPlans

TOP_K = 5
N_FOLDS = 5
N_PROBES = 3
"""Measured plans by which a device that was not modelled is placed among those that were."""
SPREADING = 0.01


@dataclass(frozen=True)
class Agreement:
    """How well predictions agree with measurements.

    Attributes
    ----------
    mape
        Mean absolute relative error, a share.
    within_5
        Share of predictions within 5 %.
    bias
        Mean relative error: positive when predictions are too high.
    spearman, kendall
        Rank correlations (Kendall's tau-b); 0 when one side is constant.
    top_k_regret
        The fastest of the five plans predicted fastest, over the fastest of all, minus one.
    n
        Pairs compared.
    """

    mape: float
    within_5: float
    bias: float
    spearman: float
    kendall: float
    top_k_regret: float
    n: int


@dataclass(frozen=True)
class ReportCard:
    """What is known about a surrogate's errors. All values are plain numbers and texts, as JSON has them.

    Attributes
    ----------
    kind
        Name of the surrogate.
    n_plans, n_clusters
        Measured plans that it was fitted to, and clusters.
    plans
        Agreement of averages for plans left out in turn.
    devices
        Agreement for clusters left out in turn, on plans left out too: the device is predicted from the other
        clusters' surrogates and its own latency on three plans. None with fewer than three clusters.
    learning_curve
        (Training plans, mean absolute relative error on plans left out).
    optimum_error
        Predicted over measured average, minus one, at the plan that the last search found, before it was measured.
    """

    kind: str
    n_plans: int
    n_clusters: int
    plans: Agreement
    devices: Agreement | None
    learning_curve: tuple[tuple[int, float], ...]
    optimum_error: float | None = None

    def at_optimum(self, error: float) -> ReportCard:
        """The same card with the error at an optimum."""
        return replace(self, optimum_error=float(error))


def agreement(predicted_ms: Floats, measured_ms: Floats) -> Agreement:
    """Agreement of predictions with measurements, arrays of one shape (n_plans,) or (n_plans, n_devices).

    Of several devices the rank correlations and regrets, which compare plans, are averaged.
    """
    predicted, measured = (np.asarray(values, dtype=float) for values in (predicted_ms, measured_ms))
    error = predicted / measured - 1.0
    columns = list(zip(np.atleast_2d(predicted.T), np.atleast_2d(measured.T), strict=True))
    return Agreement(
        mape=float(np.abs(error).mean()),
        within_5=float((np.abs(error) <= 0.05).mean()),
        bias=float(error.mean()),
        spearman=float(np.mean([_rank_correlation("spearman", *pair) for pair in columns])),
        kendall=float(np.mean([_rank_correlation("kendall", *pair) for pair in columns])),
        top_k_regret=float(np.mean([_regret(*pair) for pair in columns])),
        n=predicted.size,
    )


def report_card(
    name: SurrogateName, measured: MeasuredPlans, *, seed: int = 0, sizes: Sequence[int] | None = None
) -> ReportCard:
    """Report card of a surrogate on measured plans, by cross-validation: no further measurement.

    Parameters
    ----------
    seed
        Seed of the folds and of the surrogate.
    sizes
        Training plans of the learning curve; None halves their number three times.
    """
    order = np.random.default_rng([seed, len(measured)]).permutation(len(measured))
    shuffled = measured.subset(order)
    predicted = cross_predict(name, shuffled, seed=seed)
    return ReportCard(
        kind=name,
        n_plans=len(measured),
        n_clusters=measured.n_clusters,
        plans=agreement(predicted @ measured.weights, shuffled.average_ms),
        devices=_held_out_devices(predicted, shuffled.latency_ms),
        learning_curve=learning_curve(name, shuffled, seed=seed, sizes=sizes),
    )


def cross_predict(name: SurrogateName, measured: MeasuredPlans, *, seed: int = 0) -> Floats:
    """Latency in ms of each plan by a surrogate fitted to the other folds, shape (n_plans, n_clusters)."""
    predicted = np.empty_like(measured.latency_ms)
    fold = np.arange(len(measured)) % N_FOLDS
    for number in range(N_FOLDS):
        surrogate = fit_surrogate(name, measured.subset(fold != number), seed=seed)
        predicted[fold == number] = surrogate.predict(measured.widths[fold == number])
    return predicted


def learning_curve(
    name: SurrogateName, measured: MeasuredPlans, *, seed: int = 0, sizes: Sequence[int] | None = None
) -> tuple[tuple[int, float], ...]:
    """(Training plans, mean absolute relative error of averages on the last fifth of the plans), in rising order."""
    n_train = len(measured) - max(1, len(measured) // N_FOLDS)
    if sizes is None:
        sizes = sorted({n_train >> halvings for halvings in range(4)})
    test = measured.subset(np.arange(n_train, len(measured)))
    averaged = measured.averaged()
    curve = []
    for n in sizes:
        if LEAST_PLANS <= n <= n_train:
            surrogate = fit_surrogate(name, averaged.subset(np.arange(n)), seed=seed)
            error = np.abs(surrogate.predict_average(test.widths) / test.average_ms - 1.0)
            curve.append((int(n), float(error.mean())))
    return tuple(curve)


def _held_out_devices(predicted_ms: Floats, measured_ms: Floats) -> Agreement | None:
    """Agreement for each cluster's device, mixed from the other clusters' predictions to match its latency on probes.

    The mixture is not negative and matches the probes in relative terms; a small penalty spreads it over like clusters.
    """
    from scipy.optimize import nnls

    n_plans, n_clusters = measured_ms.shape
    if n_clusters < 3 or n_plans < 2 * N_PROBES:
        return None
    guessed = np.empty_like(predicted_ms)
    spread = np.argsort(measured_ms.mean(axis=1), kind="stable")
    probes = spread[np.linspace(0, n_plans - 1, N_PROBES).astype(int)]
    for device in range(n_clusters):
        others = np.delete(np.arange(n_clusters), device)
        relative = measured_ms[np.ix_(probes, others)] / measured_ms[probes, device][:, None]
        penalty = SPREADING * relative.mean() * np.eye(len(others))
        wanted = np.concatenate([np.ones(N_PROBES), np.zeros(len(others))])
        mixture = nnls(np.concatenate([relative, penalty]), wanted)[0]
        guessed[:, device] = predicted_ms[:, others] @ mixture
    rest = np.delete(np.arange(n_plans), probes)
    return agreement(guessed[rest], measured_ms[rest])


def _rank_correlation(name: str, first: Floats, second: Floats) -> float:
    from scipy import stats

    if min(np.ptp(first), np.ptp(second)) == 0:
        return 0.0
    correlation = stats.spearmanr if name == "spearman" else stats.kendalltau
    return float(correlation(first, second).statistic)


def _regret(predicted: Floats, measured: Floats) -> float:
    best = np.argsort(predicted, kind="stable")[:TOP_K]
    return float(measured[best].min() / measured.min() - 1.0)
