from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hdapbench.surrogate.fit import SURROGATES, SurrogateName
from hdapbench.surrogate.report_card import agreement, cross_predict, learning_curve, report_card
from tests.surrogate.surrogate_worlds import measured_world


def test_the_agreement_of_known_predictions() -> None:
    measured = np.array([1.0, 2.0, 4.0, 8.0])

    found = agreement(np.array([1.04, 2.2, 4.0, 6.0]), measured)

    assert found.mape == pytest.approx((0.04 + 0.1 + 0.0 + 0.25) / 4)
    assert found.bias == pytest.approx((0.04 + 0.1 + 0.0 - 0.25) / 4)
    assert found.within_5 == 0.5
    assert found.spearman == pytest.approx(1.0)
    assert found.kendall == pytest.approx(1.0)
    assert found.top_k_regret == 0.0
    assert found.n == 4


def test_one_swap_of_neighbours_costs_kendall_one_pair() -> None:
    found = agreement(np.array([2.0, 1.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0, 4.0]))

    assert found.kendall == pytest.approx(1 - 2 / 6)
    assert found.spearman == pytest.approx(1 - 6 * 2 / (4 * 15))


def test_equal_predictions_share_their_mean_rank() -> None:
    found = agreement(np.array([1.0, 1.0, 2.0, 2.0]), np.array([1.0, 2.0, 3.0, 4.0]))

    assert found.spearman == pytest.approx(2 / np.sqrt(5))


def test_constant_predictions_have_no_rank_correlation() -> None:
    found = agreement(np.ones(4), np.array([1.0, 2.0, 3.0, 4.0]))

    assert (found.spearman, found.kendall) == (0.0, 0.0)


def test_regret_is_what_the_best_of_the_predicted_few_loses() -> None:
    measured = np.arange(1.0, 11.0)
    predicted = measured.copy()
    predicted[:3] = 100.0  # the three fastest are overlooked

    assert agreement(predicted, measured).top_k_regret == pytest.approx(3.0)


def test_ranks_compare_plans_on_each_device_and_not_devices() -> None:
    measured = np.array([[1.0, 10.0], [2.0, 30.0], [3.0, 20.0]])
    predicted = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])

    found = agreement(predicted, measured)

    assert found.spearman == pytest.approx((1.0 + 0.5) / 2)
    assert found.n == 6


@pytest.mark.parametrize("kind", SURROGATES)
def test_plans_are_predicted_without_having_been_seen(kind: SurrogateName) -> None:
    measured = measured_world(25)
    spoilt = measured.latency_ms.copy()
    spoilt[3] *= 50.0  # whoever has seen it would follow it

    predicted = cross_predict(kind, measured)
    after = cross_predict(kind, replace(measured, latency_ms=spoilt))

    np.testing.assert_allclose(after[3], predicted[3], rtol=1e-9)


def test_a_card_tells_a_good_surrogate_from_a_poor_one_on_plans_and_on_devices() -> None:
    measured = measured_world(60, noise=0.005)

    good, poor = report_card("nnls", measured), report_card("gbrt-on-ratios", measured)

    assert good.plans.mape < 0.01
    assert poor.plans.mape > 0.1
    assert good.devices is not None
    assert poor.devices is not None
    assert good.devices.mape < 0.02 < poor.devices.mape
    assert good.plans.n == 60
    assert (good.n_plans, good.n_clusters, good.kind) == (60, 4, "nnls")


def test_devices_that_nothing_else_resembles_are_seen_on_the_card() -> None:
    def other_ms(kernels, widths):  # type: ignore[no-untyped-def]
        out_channels = kernels.channels(widths)[1].astype(float)
        return 0.1 + 1e-3 * (out_channels.sum(axis=1) ** 1.2)

    alike = measured_world(60)
    latency = alike.latency_ms.copy()
    latency[:, 0] = other_ms(alike.kernels, alike.widths)
    odd = report_card("nnls", replace(alike, latency_ms=latency))

    assert odd.devices is not None
    assert odd.devices.mape > 5 * report_card("nnls", alike).devices.mape  # type: ignore[union-attr]


def test_two_clusters_leave_no_devices_to_compare() -> None:
    measured = measured_world(30)
    two = replace(measured, latency_ms=measured.latency_ms[:, :2], weights=np.array([0.5, 0.5]))

    assert report_card("ridge", two).devices is None


def test_the_learning_curve_falls_with_training_plans() -> None:
    curve = learning_curve("nnls", measured_world(200, noise=0.01))

    sizes, errors = zip(*curve, strict=True)
    assert sizes == (20, 40, 80, 160)
    assert errors[-1] < 0.7 * errors[0]
    assert [n for n, _ in learning_curve("nnls", measured_world(30), sizes=(4, 10, 20, 500))] == [10, 20]


def test_the_same_measurements_give_the_same_card() -> None:
    assert report_card("nnls", measured_world(30), seed=3) == report_card("nnls", measured_world(30), seed=3)
