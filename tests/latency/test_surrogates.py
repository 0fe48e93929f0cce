from __future__ import annotations

import numpy as np
import pytest

from hdapbench.latency.surrogate import Kind, cross_validate, make_surrogate, report_card


def linear_world(n_plans: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features in [0, 1] and latencies that are non-negative in each of them, with 1 % noise."""
    rng = np.random.default_rng(seed)
    features = rng.uniform(0.1, 1.0, size=(n_plans, 12))
    latency = 1.0 + features @ np.linspace(0.0, 2.0, 12)
    return features, latency * np.exp(0.01 * rng.standard_normal(n_plans))


@pytest.mark.parametrize("kind", ["ridge", "nnls"])
def test_linear_surrogates_recover_a_linear_world_within_its_noise(kind: Kind) -> None:
    features, latency = linear_world(80)
    surrogate = make_surrogate(kind)
    surrogate.fit(features, latency)
    unseen, truth = linear_world(200, seed=1)

    assert report_card(surrogate.predict(unseen), truth).mape < 0.012


def test_ridge_extrapolates_where_trees_cannot() -> None:
    features, latency = linear_world(120)
    inside = latency > np.quantile(latency, 0.3)
    errors = {}
    for kind in ("ridge", "gbrt"):
        surrogate = make_surrogate(kind)  # type: ignore[arg-type]
        surrogate.fit(features[inside], latency[inside])
        errors[kind] = report_card(surrogate.predict(features[~inside]), latency[~inside]).mape

    assert errors["ridge"] < 0.5 * errors["gbrt"]


def test_nnls_never_rewards_more_work() -> None:
    features, latency = linear_world(60)
    surrogate = make_surrogate("nnls")
    surrogate.fit(features, latency)

    base = surrogate.predict(features)
    for column in range(features.shape[1]):
        more = features.copy()
        more[:, column] += 0.1
        assert (surrogate.predict(more) >= base - 1e-12).all()


def test_more_features_than_plans_still_predict_better_than_the_mean() -> None:
    rng = np.random.default_rng(1)
    features = rng.uniform(size=(30, 80))
    latency = 5.0 + features[:, :10].sum(axis=1)

    card = cross_validate("ridge", features, latency)

    assert card.mape < report_card(np.full(30, latency.mean()), latency).mape


def test_the_report_card_of_known_predictions() -> None:
    measured = np.array([1.0, 2.0, 4.0, 8.0])

    card = report_card(np.array([1.04, 2.2, 4.0, 6.0]), measured)

    assert card.mape == pytest.approx((0.04 + 0.1 + 0.0 + 0.25) / 4)
    assert card.within_5 == 0.5
    assert card.spearman == pytest.approx(1.0)


def test_constant_predictions_have_no_rank_correlation() -> None:
    assert report_card(np.ones(4), np.array([1.0, 2.0, 3.0, 4.0])).spearman == 0.0
