from __future__ import annotations

import numpy as np
import pytest

from hdapbench.errors import SurrogateError
from hdapbench.surrogate.base import AdditiveSurrogate
from hdapbench.surrogate.boosted import ResidualTrees
from hdapbench.surrogate.fit import SURROGATES, SurrogateName, fit_surrogate
from hdapbench.surrogate.gaussian_process import GaussianProcess
from hdapbench.surrogate.linear import NonNegativeSurrogate
from hdapbench.surrogate.measured import MeasuredPlans
from hdapbench.surrogate.report_card import agreement
from tests.surrogate.surrogate_worlds import (
    CLUSTER_SPEED,
    WEIGHTS,
    measured_world,
    random_widths,
    small_model,
    staircase_ms,
)

ADDITIVE: tuple[SurrogateName, ...] = ("nnls", "ridge", "gp")
PHYSICS: tuple[SurrogateName, ...] = (*ADDITIVE, "nnls+gbrt")


@pytest.mark.parametrize("kind", SURROGATES)
def test_every_kind_predicts_all_clusters_at_once_and_their_average(kind: SurrogateName) -> None:
    surrogate = fit_surrogate(kind, measured_world(40))
    widths = random_widths(300, seed=5)

    predicted = surrogate.predict(widths)

    assert surrogate.name == kind
    assert predicted.shape == (300, 4)
    np.testing.assert_allclose(surrogate.predict_average(widths), predicted @ WEIGHTS, rtol=1e-12)
    for row in (0, 170, 299):  # batches do not mix plans up
        np.testing.assert_allclose(surrogate.predict(widths[row])[0], predicted[row], rtol=1e-12)


@pytest.mark.parametrize("kind", SURROGATES)
def test_clusters_keep_their_own_speed(kind: SurrogateName) -> None:
    surrogate = fit_surrogate(kind, measured_world(60, noise=0.005))

    predicted = surrogate.predict(random_widths(50, seed=6))

    np.testing.assert_allclose((predicted / predicted[:, :1]).mean(axis=0), CLUSTER_SPEED, rtol=0.03)


@pytest.mark.parametrize("kind", PHYSICS)
def test_features_of_kernels_predict_where_kept_shares_do_not(kind: SurrogateName) -> None:
    measured = measured_world(60, noise=0.005)
    unseen = random_widths(200, seed=7)
    truth = staircase_ms(measured.kernels, unseen) * (CLUSTER_SPEED @ WEIGHTS)

    ours = agreement(fit_surrogate(kind, measured).predict_average(unseen), truth)
    recipe = agreement(fit_surrogate("gbrt-on-ratios", measured).predict_average(unseen), truth)

    assert ours.mape < 0.02
    assert ours.mape < 0.3 * recipe.mape
    assert ours.spearman > 0.98 > recipe.spearman


@pytest.mark.parametrize("kind", ADDITIVE)
def test_costs_of_kernels_and_the_constant_sum_to_the_prediction(kind: SurrogateName) -> None:
    measured = measured_world(50, noise=0.01)
    surrogate = fit_surrogate(kind, measured)
    assert isinstance(surrogate, AdditiveSurrogate)
    widths = random_widths(80, seed=8)
    in_channels, out_channels = measured.kernels.channels(widths)

    costs = [
        surrogate.kernel_cost_ms(number, np.stack([in_channels[:, number], out_channels[:, number]], axis=1))
        for number in range(len(measured.kernels))
    ]

    np.testing.assert_allclose(
        np.sum(costs, axis=0) + surrogate.constant_ms, surrogate.predict_average(widths), rtol=1e-9
    )
    assert all(cost.shape == (80,) for cost in costs)


@pytest.mark.parametrize("kind", ADDITIVE)
def test_kernels_of_one_shape_cost_the_same_for_the_same_channels(kind: SurrogateName) -> None:
    measured = measured_world(40)
    surrogate = fit_surrogate(kind, measured)
    assert isinstance(surrogate, AdditiveSurrogate)
    names = [kernel.name for kernel in measured.kernels.kernels]
    pairs = np.array([[12, 40], [64, 64], [128, 250]])

    first, second = (surrogate.kernel_cost_ms(names.index(name), pairs) for name in ("conv4", "conv6"))

    np.testing.assert_array_equal(first, second)


def test_no_pairs_cost_nothing_to_ask() -> None:
    for kind in ADDITIVE:
        surrogate = fit_surrogate(kind, measured_world(20))
        assert isinstance(surrogate, AdditiveSurrogate)
        assert surrogate.kernel_cost_ms(1, np.zeros((0, 2))).shape == (0,)


def test_trees_learn_what_the_linear_part_leaves() -> None:
    def curved_ms(kernels, widths):  # type: ignore[no-untyped-def]
        linear = staircase_ms(kernels, widths)
        return linear * (1.0 + 0.2 * (widths[:, 2] > 60))

    measured = measured_world(200, latency_ms=curved_ms)
    unseen = random_widths(200, seed=9)
    truth = curved_ms(measured.kernels, unseen) * (CLUSTER_SPEED @ WEIGHTS)

    whole = fit_surrogate("nnls+gbrt", measured)

    assert isinstance(whole, ResidualTrees)
    linear_error = agreement(whole.linear.predict_average(unseen), truth).mape
    assert agreement(whole.predict_average(unseen), truth).mape < 0.6 * linear_error


def test_the_process_learns_smooth_deviations_that_its_trend_cannot_say() -> None:
    def bent_ms(kernels, widths):  # type: ignore[no-untyped-def]
        in_channels, out_channels = (counts.astype(float) for counts in kernels.channels(widths))
        work = in_channels * out_channels * kernels.table["kernel_area"] * kernels.table["area_out"]
        return 0.05 + (2e-7 * work**0.9).sum(axis=1)

    measured = measured_world(150, latency_ms=bent_ms)
    unseen = random_widths(200, seed=10)
    truth = bent_ms(measured.kernels, unseen) * (CLUSTER_SPEED @ WEIGHTS)

    whole = fit_surrogate("gp", measured)

    assert isinstance(whole, GaussianProcess)
    error = agreement(whole.predict_average(unseen), truth).mape
    assert error < 0.8 * agreement(whole.trend.predict_average(unseen), truth).mape


def test_a_refit_at_a_known_strength_equals_the_fit_that_chose_it() -> None:
    measured = measured_world(40, noise=0.01)

    chosen = NonNegativeSurrogate.fit(measured)
    again = NonNegativeSurrogate.fit_at(measured, chosen.strength)

    np.testing.assert_array_equal(again.coefficients, chosen.coefficients)


@pytest.mark.parametrize("kind", SURROGATES)
def test_the_same_plans_give_the_same_surrogate(kind: SurrogateName) -> None:
    widths = random_widths(30, seed=3)

    first, second = (fit_surrogate(kind, measured_world(40, noise=0.01), seed=2).predict(widths) for _ in range(2))

    np.testing.assert_array_equal(first, second)


def test_too_few_plans_and_unknown_kinds_are_said_so() -> None:
    with pytest.raises(SurrogateError, match="at least 5 measured plans, got 4"):
        fit_surrogate("nnls", measured_world(4))
    with pytest.raises(SurrogateError, match="unknown surrogate 'forest'; known: nnls, ridge"):
        fit_surrogate("forest", measured_world(9))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", SURROGATES)
def test_five_plans_are_enough_to_begin_with(kind: SurrogateName) -> None:
    predicted = fit_surrogate(kind, measured_world(5)).predict(random_widths(20, seed=1))

    assert np.isfinite(predicted).all()


@pytest.mark.parametrize(
    ("latency", "weights", "message"),
    [
        (np.ones((3, 2)), [1.0], "latencies of shape"),
        (np.ones((2, 2)), [0.5, 0.5], "latencies of shape"),
        (np.array([[1.0], [np.nan], [1.0]]), [1.0], "finite and positive"),
        (np.array([[1.0], [0.0], [1.0]]), [1.0], "finite and positive"),
        (np.ones((3, 2)), [1.0, -0.5], "not negative"),
    ],
)
def test_measurements_that_cannot_be_are_refused(latency: np.ndarray, weights: list[float], message: str) -> None:
    _, kernels = small_model()

    with pytest.raises(SurrogateError, match=message):
        MeasuredPlans(kernels, random_widths(3, seed=0), latency, np.array(weights))


def test_weights_are_shares_and_plans_can_be_picked_joined_and_averaged() -> None:
    _, kernels = small_model()
    widths = random_widths(4, seed=0)
    measured = MeasuredPlans(kernels, widths, np.array([[1.0, 3.0]] * 4), np.array([30, 10]))

    assert measured.weights.tolist() == [0.75, 0.25]
    assert measured.average_ms.tolist() == [1.5] * 4
    assert len(measured.subset(np.array([True, False, True, False]))) == 2
    assert measured.subset([2, 2]).widths.tolist() == [widths[2].tolist()] * 2
    assert measured.joined(widths[0], [5.0, 6.0]).latency_ms.tolist()[-1] == [5.0, 6.0]
    assert measured.averaged().latency_ms[:, 0].tolist() == [1.5] * 4
