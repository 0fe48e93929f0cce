from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hdapbench.surrogate.regression import LinearFit, fit_non_negative, fit_ridge

Fit = Callable[..., LinearFit]
ONE = np.ones(1)
N_KERNELS = 56


def mape(predicted: np.ndarray, truth: np.ndarray) -> float:
    return float(np.abs(predicted / truth - 1).mean())


def linear_world(n_plans: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Columns in [0, 1] and latencies that are non-negative in each of them, with 1 % noise, on one cluster."""
    rng = np.random.default_rng(seed)
    columns = rng.uniform(0.1, 1.0, size=(n_plans, 12))
    latency = 1.0 + columns @ np.linspace(0.0, 2.0, 12)
    return columns, (latency * np.exp(0.01 * rng.standard_normal(n_plans)))[:, None]


def kernel_world(n_spread: int, n_near: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Work and traffic of a chain of kernels for spread and for nearly equal plans, and latencies with 1 % noise."""
    rng = np.random.default_rng(seed)
    near = np.clip(0.5 + 0.02 * rng.standard_normal((n_near, N_KERNELS)), 0.1, 1.0)
    shares = np.concatenate([rng.uniform(0.1, 1.0, (n_spread, N_KERNELS)), near])
    work = shares * np.roll(shares, 1, axis=1)
    columns = np.concatenate([work, 0.3 * shares + 0.7 * work], axis=1)
    latency = 1.0 + columns @ np.random.default_rng(99).uniform(size=2 * N_KERNELS)
    latency += 0.1 * np.maximum(work - 0.5, 0.0).sum(axis=1)  # what a linear model cannot say
    return columns, (latency * np.exp(0.01 * rng.standard_normal(len(latency))))[:, None]


@pytest.mark.parametrize("fit", [fit_ridge, fit_non_negative])
def test_a_linear_world_is_recovered_within_its_noise(fit: Fit) -> None:
    columns, latency = linear_world(80)
    unseen, truth = linear_world(200, seed=1)

    assert mape(fit(columns, latency, ONE).predict(unseen), truth) < 0.012


@pytest.mark.parametrize("fit", [fit_ridge, fit_non_negative])
def test_all_clusters_are_fitted_at_once_as_they_are_alone(fit: Fit) -> None:
    columns, latency = linear_world(60)
    both = np.concatenate([latency, 2.5 * latency], axis=1)

    together = fit(columns, both, np.array([1.0, 0.0]))
    alone = fit(columns, latency, ONE)

    np.testing.assert_allclose(together.predict(columns)[:, 0], alone.predict(columns)[:, 0], rtol=1e-9)
    np.testing.assert_allclose(together.predict(columns)[:, 1], 2.5 * alone.predict(columns)[:, 0], rtol=1e-6)


def test_non_negative_weights_never_reward_more_work() -> None:
    columns, latency = kernel_world(60, 0, seed=3)

    fit = fit_non_negative(columns, latency, ONE)

    assert (fit.coefficients >= 0).all()
    assert (fit.constants >= 0).all()


@pytest.mark.parametrize("seed", range(6))
def test_ridge_does_not_interpolate_when_columns_outnumber_plans(seed: int) -> None:
    columns, latency = kernel_world(40, 24, seed=seed)
    unseen, truth = kernel_world(200, 0, seed=1000 + seed)

    assert mape(fit_ridge(columns, latency, ONE).predict(unseen), truth) < 0.05


@pytest.mark.parametrize("fit", [fit_ridge, fit_non_negative])
def test_plans_near_an_optimum_sharpen_the_prediction_there(fit: Fit) -> None:
    spread, spread_ms = kernel_world(60, 0, seed=0)
    both, both_ms = kernel_world(60, 12, seed=0)
    near, truth = (values[1:] for values in kernel_world(1, 100, seed=5))

    errors = [mape(fit(*world, ONE).predict(near), truth) for world in ((spread, spread_ms), (both, both_ms))]

    assert errors[1] < errors[0]
    assert errors[1] < 0.015


@pytest.mark.parametrize("fit", [fit_ridge, fit_non_negative])
def test_few_plans_borrow_from_columns_of_the_same_family(fit: Fit) -> None:
    rng = np.random.default_rng(2)
    family = np.repeat(np.arange(2), 20)
    cost = np.where(family == 0, 1.0, 5.0) * rng.uniform(0.9, 1.1, 40)
    columns = rng.uniform(size=(415, 40)) / 20
    latency = (0.3 + columns @ cost)[:, None]

    errors = [
        mape(fit(columns[:15], latency[:15], ONE, family=given).predict(columns[15:]), latency[15:])
        for given in (family, None)
    ]

    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("fit", [fit_ridge, fit_non_negative])
def test_a_column_that_never_varies_changes_nothing(fit: Fit) -> None:
    columns, latency = kernel_world(80, 0, seed=0)
    constant = np.concatenate([columns, np.full((len(columns), 1), 3.7)], axis=1)

    predictions = [fit(given, latency, ONE).predict(given) for given in (columns, constant)]

    np.testing.assert_allclose(predictions[0], predictions[1], rtol=1e-3)


@pytest.mark.parametrize("fit", [fit_ridge, fit_non_negative])
def test_errors_are_relative_so_units_do_not_matter(fit: Fit) -> None:
    columns, latency = kernel_world(70, 0, seed=4)

    in_ms, in_us = fit(columns, latency, ONE), fit(columns, 1000 * latency, ONE)

    np.testing.assert_allclose(1000 * in_ms.predict(columns), in_us.predict(columns), rtol=1e-6)
