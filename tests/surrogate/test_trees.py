from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingRegressor

from hdapbench.surrogate.trees import Forests


def data(n: int, seed: int, *, n_inputs: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs = rng.uniform(size=(n, n_inputs))
    wanted = np.stack([np.sin(7 * inputs[:, 0]) + inputs[:, 1], np.floor(4 * inputs[:, 2])], axis=1)
    return inputs, wanted + 0.05 * rng.standard_normal(wanted.shape)


def library_models(inputs: np.ndarray, wanted: np.ndarray, **settings: object) -> list[GradientBoostingRegressor]:
    given = {"n_estimators": 100, "max_depth": 3, "random_state": 0} | settings
    return [GradientBoostingRegressor(**given).fit(inputs, column) for column in wanted.T]


@pytest.mark.parametrize("n", [12, 60, 400])
def test_predictions_equal_the_librarys(n: int) -> None:
    inputs, wanted = data(n, seed=n)
    unseen = np.concatenate([data(3000, seed=1)[0], inputs])

    predicted = Forests.fit(inputs, wanted).predict(unseen)

    expected = np.stack([model.predict(unseen) for model in library_models(inputs, wanted)], axis=1)
    np.testing.assert_allclose(predicted, expected, rtol=1e-12, atol=1e-12)


def test_predictions_equal_the_librarys_on_the_very_edges_of_its_splits() -> None:
    inputs, wanted = data(40, seed=3)
    models = library_models(inputs, wanted)
    edges = np.concatenate([row[0].tree_.threshold for model in models for row in model.estimators_])
    around = np.concatenate([np.nextafter(edges, -9), edges, np.nextafter(edges, 9), np.float32(edges)])
    unseen = np.repeat(around[:, None], inputs.shape[1], axis=1)

    expected = np.stack([model.predict(unseen) for model in models], axis=1)

    np.testing.assert_allclose(Forests.from_models(models).predict(unseen), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("settings", [{"max_depth": 1}, {"max_depth": 5}, {"n_estimators": 7, "learning_rate": 0.3}])
def test_other_settings_of_the_library_are_taken_over(settings: dict[str, object]) -> None:
    inputs, wanted = data(90, seed=4)
    models = library_models(inputs, wanted, **settings)

    expected = np.stack([model.predict(inputs) for model in models], axis=1)

    np.testing.assert_allclose(Forests.from_models(models).predict(inputs), expected, rtol=1e-12, atol=1e-12)


def test_latencies_that_never_vary_are_learnt_exactly() -> None:
    inputs, _ = data(20, seed=0)

    predicted = Forests.fit(inputs, np.full((20, 2), 3.25)).predict(inputs)

    np.testing.assert_allclose(predicted, 3.25)


def test_no_plans_give_no_predictions() -> None:
    inputs, wanted = data(20, seed=0)

    assert Forests.fit(inputs, wanted).predict(np.zeros((0, 6))).shape == (0, 2)
