"""Ridge fits as HDAP asks for them: more features than plans, and a cluster of near-equal plans from active rounds."""

from __future__ import annotations

import numpy as np
import pytest

from hdapbench.latency.surrogate import Ridge, cross_validate, report_card

N_KERNELS = 56


def kernel_world(n_spread: int, n_near: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Work and traffic of a chain of kernels for spread and for nearly equal plans, and latencies with 1 % noise."""
    rng = np.random.default_rng(seed)
    near = np.clip(0.5 + 0.02 * rng.standard_normal((n_near, N_KERNELS)), 0.1, 1.0)
    shares = np.concatenate([rng.uniform(0.1, 1.0, (n_spread, N_KERNELS)), near])
    work = shares * np.roll(shares, 1, axis=1)
    features = np.concatenate([work, 0.3 * shares + 0.7 * work], axis=1)
    latency = 1.0 + features @ np.random.default_rng(99).uniform(size=2 * N_KERNELS)
    latency += 0.1 * np.maximum(work - 0.5, 0.0).sum(axis=1)  # what a linear model cannot say
    return features, latency * np.exp(0.01 * rng.standard_normal(len(latency)))


@pytest.mark.parametrize("seed", range(6))
def test_ridge_does_not_interpolate_when_features_outnumber_plans(seed: int) -> None:
    features, latency = kernel_world(40, 24, seed=seed)
    unseen, truth = kernel_world(200, 0, seed=1000 + seed)
    surrogate = Ridge()

    surrogate.fit(features, latency)

    assert report_card(surrogate.predict(unseen), truth).mape < 0.05
    assert cross_validate("ridge", features, latency).mape < 0.05


def test_plans_near_an_optimum_sharpen_the_prediction_there() -> None:
    spread, spread_ms = kernel_world(60, 0, seed=0)
    both, both_ms = kernel_world(60, 12, seed=0)
    near, truth = (values[1:] for values in kernel_world(1, 100, seed=5))
    errors = []
    for features, latency in ((spread, spread_ms), (both, both_ms)):
        surrogate = Ridge()
        surrogate.fit(features, latency)
        errors.append(report_card(surrogate.predict(near), truth).mape)

    assert errors[1] < errors[0]
    assert errors[1] < 0.015


def test_a_feature_that_never_varies_changes_nothing() -> None:
    features, latency = kernel_world(80, 0, seed=0)
    constant = np.concatenate([features, np.full((len(features), 1), 3.7)], axis=1)
    predictions = []
    for given in (features, constant):
        surrogate = Ridge()
        surrogate.fit(given, latency)
        predictions.append(surrogate.predict(given))

    np.testing.assert_allclose(predictions[0], predictions[1], rtol=1e-6)


def test_equal_predictions_share_their_mean_rank() -> None:
    card = report_card(np.array([1.0, 1.0, 2.0, 2.0]), np.array([1.0, 2.0, 3.0, 4.0]))

    assert card.spearman == pytest.approx(2 / np.sqrt(5))
