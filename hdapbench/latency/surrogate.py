"""Latency surrogates: measured plans -> predictions for any plan, and their report card. Numpy and scikit-learn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Kind = Literal["ridge", "nnls", "gbrt"]

LEAST_FREEDOM_SHARE = 0.2
"""Ridge strengths that leave fewer degrees of freedom per plan are not tried.

With more features than plans the score of cross-validation tends to 0/0 there and may pick the interpolating fit:
13 to 17 % cross-validated error instead of 2 % on ResNet50 with 105 plans, 25 of them from active rounds.
"""


@dataclass(frozen=True)
class ReportCard:
    """How well predictions agree with measurements of plans that were not fitted.

    ``mape`` and ``within_5`` are shares (mean absolute relative error; predictions within 5 %), ``spearman`` the rank
    correlation, ``n_plans`` the number of plans compared.
    """

    mape: float
    within_5: float
    spearman: float
    n_plans: int


class Surrogate(ABC):
    """Regression from features to latency in ms."""

    @abstractmethod
    def fit(self, features: Floats, latency_ms: Floats) -> None:
        """Fit to measured plans: features of shape (n_plans, n_features), latencies of shape (n_plans,)."""

    @abstractmethod
    def predict(self, features: Floats) -> Floats:
        """Latency in ms of plans, shape (n_plans,)."""


class Ridge(Surrogate):
    """Ridge regression on standardised features; its strength by generalised cross-validation (Golub et al. 1979)."""

    def __init__(self) -> None:
        self._mean, self._scale, self._weights, self._offset = np.zeros(0), np.ones(0), np.zeros(0), 0.0

    def fit(self, features: Floats, latency_ms: Floats) -> None:
        """Fit to relative errors: every plan is weighted by the inverse of its latency."""
        importance = 1.0 / latency_ms
        self._mean = np.average(features, axis=0, weights=importance)
        self._scale = np.maximum(features.std(axis=0), 1e-9)
        self._offset = float(np.average(latency_ms, weights=importance))
        rows = np.sqrt(importance)[:, None]
        design = (features - self._mean) / self._scale * rows
        wanted = (latency_ms - self._offset) * rows[:, 0]
        left, singular, right = np.linalg.svd(design, full_matrices=False)
        projected = left.T @ wanted
        best = (np.inf, np.zeros(features.shape[1]))
        for strength in np.logspace(-4, 2, 25) * singular[0] ** 2:
            shrink = singular**2 / (singular**2 + strength)
            freedom = len(wanted) - 1 - shrink.sum()  # the offset is fitted too
            if freedom < LEAST_FREEDOM_SHARE * len(wanted):
                continue
            residual = wanted - left @ (shrink * projected)
            score = float(residual @ residual) / freedom**2
            if score < best[0]:
                best = (score, right.T @ (singular / (singular**2 + strength) * projected))
        self._weights = best[1]

    def predict(self, features: Floats) -> Floats:
        """Latency in ms of plans, shape (n_plans,)."""
        return np.asarray((features - self._mean) / self._scale @ self._weights + self._offset)


class NonNegative(Surrogate):
    """Least squares with non-negative weights: work cannot make a kernel faster (Lawson and Hanson 1974)."""

    def __init__(self) -> None:
        self._weights = np.zeros(0)

    def fit(self, features: Floats, latency_ms: Floats) -> None:
        """Fit to relative errors."""
        from scipy.optimize import nnls

        design = np.concatenate([features, np.ones((len(features), 1))], axis=1) / latency_ms[:, None]
        self._weights = nnls(design, np.ones(len(features)))[0]

    def predict(self, features: Floats) -> Floats:
        """Latency in ms of plans, shape (n_plans,)."""
        return np.asarray(features @ self._weights[:-1] + self._weights[-1])


class Trees(Surrogate):
    """Gradient-boosted trees, 100 of depth 3: the recipe of the public HDAP descriptions, on kept shares."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def fit(self, features: Floats, latency_ms: Floats) -> None:
        """Fit to squared errors."""
        from sklearn.ensemble import GradientBoostingRegressor

        self._model = GradientBoostingRegressor(n_estimators=100, max_depth=3, random_state=self._seed)
        self._model.fit(features, latency_ms)

    def predict(self, features: Floats) -> Floats:
        """Latency in ms of plans, shape (n_plans,)."""
        return np.asarray(self._model.predict(features))


def make_surrogate(kind: Kind) -> Surrogate:
    """Unfitted surrogate of a kind."""
    return {"ridge": Ridge, "nnls": NonNegative, "gbrt": Trees}[kind]()


def report_card(predicted_ms: Floats, measured_ms: Floats) -> ReportCard:
    """Agreement of predictions with measurements, arrays of shape (n_plans,)."""
    error = np.abs(predicted_ms / measured_ms - 1.0)
    return ReportCard(
        mape=float(error.mean()),
        within_5=float((error <= 0.05).mean()),
        spearman=_spearman(predicted_ms, measured_ms),
        n_plans=len(measured_ms),
    )


def cross_validate(kind: Kind, features: Floats, latency_ms: Floats, *, n_folds: int = 5) -> ReportCard:
    """Report card of a kind of surrogate, each plan predicted by a fit to the other folds."""
    predicted = np.empty_like(latency_ms)
    fold = np.arange(len(latency_ms)) % n_folds
    for number in range(n_folds):
        surrogate = make_surrogate(kind)
        surrogate.fit(features[fold != number], latency_ms[fold != number])
        predicted[fold == number] = surrogate.predict(features[fold == number])
    return report_card(predicted, latency_ms)


def _spearman(first: Floats, second: Floats) -> float:
    """Rank correlation; equal values share their mean rank; 0 when one of the two is constant."""
    if min(np.ptp(first), np.ptp(second)) == 0:
        return 0.0
    centred = []
    for values in (first, second):
        _, position, count = np.unique(values, return_inverse=True, return_counts=True)
        rank = (np.cumsum(count) - (count - 1) / 2)[position]
        centred.append(rank - rank.mean())
    return float(centred[0] @ centred[1] / np.sqrt((centred[0] @ centred[0]) * (centred[1] @ centred[1])))
