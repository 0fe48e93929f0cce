from __future__ import annotations

import numpy as np
import pytest

from hdapbench.fleet.estimate.condense import CONDENSE_ABOVE, condense, systematic_sample


def cloud(n_points: int, n_dimensions: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(1.0, 0.3, size=(n_points, n_dimensions)), rng.exponential(size=n_points)


def test_points_that_are_few_stay_as_they_are() -> None:
    points, weights = cloud(50)

    cells = condense(points, weights, n_most=50)

    assert cells.points is points
    assert cells.weights is weights
    assert cells.width == 0.0
    np.testing.assert_array_equal(cells.cell_of, np.arange(50))


@pytest.mark.parametrize("n_dimensions", [1, 2, 3, 5])
@pytest.mark.parametrize("n_most", [10, 300, 2000])
def test_cells_are_few_and_hold_the_weight_and_the_mean_of_their_points(n_dimensions: int, n_most: int) -> None:
    points, weights = cloud(30_000, n_dimensions)

    cells = condense(points, weights, n_most=n_most)

    n_cells = len(cells.weights)
    assert 1 <= n_cells <= n_most
    assert set(cells.cell_of) == set(range(n_cells))
    np.testing.assert_allclose(cells.weights, np.bincount(cells.cell_of, weights=weights), rtol=1e-12)
    np.testing.assert_allclose(cells.weights @ cells.points, weights @ points, rtol=1e-9)
    assert np.abs(points - cells.points[cells.cell_of]).max() <= cells.width


def test_the_grid_is_nearly_as_fine_as_the_number_of_cells_allows() -> None:
    points, weights = cloud(200_000)

    cells = condense(points, weights, n_most=5000)

    assert len(cells.weights) > 5000 / 4


def test_points_all_alike_are_one_cell() -> None:
    cells = condense(np.full((30_000, 3), 2.0), np.ones(30_000))

    assert cells.points.shape == (1, 3)
    np.testing.assert_allclose(cells.points, 2.0)
    assert cells.weights[0] == pytest.approx(30_000)


def test_a_far_outlier_keeps_a_cell_of_its_own() -> None:
    points, weights = cloud(CONDENSE_ABOVE + 1, 3)
    points[7] = 40.0

    cells = condense(points, weights)

    assert (cells.cell_of == cells.cell_of[7]).sum() == 1
    np.testing.assert_allclose(cells.points[cells.cell_of[7]], 40.0, rtol=1e-12)


def test_cells_do_not_depend_on_how_many_points_are_taken_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    points, weights = cloud(21_000, 3)
    whole = condense(points, weights, n_most=500)

    monkeypatch.setattr("hdapbench.fleet.estimate.condense._POINTS_AT_A_TIME", 1000)
    parts = condense(points, weights, n_most=500)

    np.testing.assert_array_equal(whole.cell_of, parts.cell_of)


def test_a_systematic_sample_takes_each_point_in_proportion_to_its_weight() -> None:
    weights = np.random.default_rng(0).exponential(size=200)

    sample = systematic_sample(weights, 1000)

    taken = np.bincount(sample, minlength=200)
    assert np.abs(taken - 1000 * weights / weights.sum()).max() < 1.0
    assert np.all(np.diff(sample) >= 0)


def test_a_systematic_sample_of_equals_is_spread_evenly() -> None:
    np.testing.assert_array_equal(systematic_sample(np.ones(90), 10), np.arange(4, 90, 9))
