"""How many devices to measure for a wanted error, and whether the promise is kept."""

from __future__ import annotations

import numpy as np
import pytest

from hdapbench.cost.kernels import KernelModel
from hdapbench.errors import FleetError
from hdapbench.fleet.base import Workloads
from hdapbench.fleet.estimate.estimators import ESTIMATORS, Estimator, Reference, estimate
from hdapbench.fleet.estimate.planner import plan_measurements, random_devices
from hdapbench.fleet.estimate.probes import take_fingerprint
from hdapbench.fleet.fingerprint import Fingerprint
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from tests.fleet.making import RUNS, pruned, simulated


@pytest.fixture(scope="module")
def mixed(kernels: KernelModel) -> tuple[SimulatedFleet, Fingerprint]:
    fleet = simulated("mixed", 500, seed=2)
    return fleet, take_fingerprint(fleet, kernels, runs=RUNS, seed=0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_larger_errors_need_fewer_devices(mixed: tuple[SimulatedFleet, Fingerprint], estimator: Estimator) -> None:
    plans = [plan_measurements(mixed[1], error=error, estimator=estimator) for error in (0.008, 0.02, 0.05)]

    numbers = [plan.design.n_measured for plan in plans]
    assert numbers[0] > numbers[1] >= numbers[2]
    for plan, error in zip(plans, (0.008, 0.02, 0.05), strict=True):
        assert plan.reached
        assert plan.half_width <= error
        assert plan.design.estimator == estimator


def test_clustered_devices_do_with_far_fewer_than_a_random_sample(
    mixed: tuple[SimulatedFleet, Fingerprint],
) -> None:
    plan = plan_measurements(mixed[1], error=0.02)

    assert plan.design.n_measured < 0.1 * plan.n_random


@pytest.mark.parametrize("estimator", ["calibrated", "medoid", "greg"])
@pytest.mark.parametrize("error", [0.01, 0.02])
def test_the_half_width_that_is_promised_is_about_kept(
    mixed: tuple[SimulatedFleet, Fingerprint], kernels: KernelModel, estimator: Estimator, error: float
) -> None:
    fleet, taken = mixed
    plan = plan_measurements(taken, error=error, estimator=estimator)
    reference = Reference.of(taken.latency_ms)
    models = pruned(kernels, 40, seed=0)
    truth = fleet.mean_latency_ms(models)

    widths, held = [], []
    for number in range(40):
        model = Workloads(kernels, models.widths[number : number + 1], ("m",))
        samples = fleet.measure(model, plan.design.devices, runs=RUNS, seed=100 + number)
        found = estimate(reference, plan.clustering, plan.design, np.median(samples, axis=2).T)
        widths.append(((found.high_ms - found.low_ms) / 2 / found.mean_ms)[0])
        held.append(abs(found.mean_ms[0] / truth[number] - 1) <= error)

    assert np.median(widths) == pytest.approx(plan.half_width, rel=0.15)
    assert np.mean(held) >= 0.9


def test_a_plan_is_the_least_that_suffices(mixed: tuple[SimulatedFleet, Fingerprint]) -> None:
    for error in (0.008, 0.012):
        plan = plan_measurements(mixed[1], error=error)
        tighter = plan_measurements(mixed[1], error=plan.half_width * 0.999)

        assert tighter.design.n_measured > plan.design.n_measured


def test_an_error_that_no_number_of_clusters_reaches_is_said_to_be_missed(
    mixed: tuple[SimulatedFleet, Fingerprint],
) -> None:
    plan = plan_measurements(mixed[1], error=1e-5)

    assert not plan.reached
    assert plan.half_width > 1e-5
    assert plan.n_random == 500


def test_random_devices_follow_cochrans_formula() -> None:
    rng = np.random.default_rng(0)
    fingerprint = 5 * np.exp(0.3 * rng.standard_normal((1000, 2)))
    reference = Reference.of(fingerprint)
    variance = np.mean([np.var(column) / column.mean() ** 2 for column in fingerprint.T])

    found = random_devices(reference, 0.02)

    unlimited = (1.959964 / 0.02) ** 2 * variance
    assert found == int(np.ceil(unlimited / (1 + unlimited / 1000)))


def test_random_devices_keep_their_promise() -> None:
    """Means of that many random devices lie within the error 95 times in a hundred."""
    rng = np.random.default_rng(1)
    fingerprint = 5 * np.exp(0.3 * rng.standard_normal((1000, 1)))
    n = random_devices(Reference.of(fingerprint), 0.03)

    means = np.array([rng.choice(fingerprint[:, 0], n, replace=False).mean() for _ in range(2000)])

    assert np.mean(np.abs(means / fingerprint.mean() - 1) <= 0.03) == pytest.approx(0.95, abs=0.02)


def test_a_fleet_of_equals_needs_one_random_device() -> None:
    assert random_devices(Reference.of(np.full((50, 3), 4.0)), 0.01) == 1


@pytest.mark.parametrize("estimator", ["calibrated", "random"])
def test_fleets_of_one_and_of_equal_devices_are_planned(estimator: Estimator) -> None:
    for n_devices in (1, 30):
        fingerprint = Fingerprint(np.full((n_devices, 3), 4.0), ("a", "b", "c"), tuple(range(n_devices)), runs=1)  # type: ignore[arg-type]

        plan = plan_measurements(fingerprint, error=0.01, estimator=estimator)

        assert plan.reached
        assert plan.design.n_measured <= 2


def test_weights_of_the_fleet_reach_the_plan() -> None:
    rng = np.random.default_rng(0)
    fingerprint = np.exp(0.3 * rng.standard_normal((200, 1)) + 0.02 * rng.standard_normal((200, 3)))
    weights = rng.exponential(size=200)
    weights /= weights.sum()
    taken = Fingerprint(fingerprint, ("a", "b", "c"), tuple(str(n) for n in range(200)), runs=1, weights=weights)

    plan = plan_measurements(taken, error=0.02)

    np.testing.assert_allclose(plan.clustering.weights, np.bincount(plan.clustering.labels, weights=weights))


@pytest.mark.parametrize("error", [0.0, -0.01, 1.0, 5.0, float("nan")])
def test_an_error_that_is_no_share_is_refused(mixed: tuple[SimulatedFleet, Fingerprint], error: float) -> None:
    with pytest.raises(FleetError, match=r"give a share between 0 and 1, such as 0\.01, or 1%"):
        plan_measurements(mixed[1], error=error)
