"""The exact fleet mean, percentiles and CVaR against dense evaluations and brute force."""

from __future__ import annotations

import numpy as np
import pytest

from hdapbench.fleet.base import Workloads
from hdapbench.fleet.simulated.engine import KernelTimes
from hdapbench.fleet.simulated.exact import SortedDevices
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from hdapbench.fleet.statistics import conditional_value_at_risk, weighted_percentile
from tests.fleet.making import simulated
from tests.fleet.networks import random_network, random_widths

TWO_MORE_STACKS = [{"share": 0.3, "depthwise_slowdown": 3.0}, {"share": 0.2, "narrow_tile_factor": 2.0}]


def plans(seed: int, n_plans: int = 4) -> Workloads:
    rng = np.random.default_rng(seed)
    kernels = random_network(rng)
    return Workloads(kernels, random_widths(rng, kernels, n_plans), tuple(f"p{number}" for number in range(n_plans)))


def dense_latency(times: KernelTimes, launch_ms: float, device: tuple[float, float, float]) -> np.ndarray:
    """Latency of every plan on one device, kernel by kernel."""
    alpha, beta, gamma = device
    return (launch_ms * alpha + np.maximum(beta * times.compute_ms, gamma * times.memory_ms)).sum(axis=1)


@pytest.mark.parametrize("seed", range(6))
def test_the_mean_over_sorted_devices_is_that_of_the_dense_evaluation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = KernelTimes(*np.exp(rng.normal(-1, 1.5, size=(2, 5, 30))), np.full(5, 30))
    alpha, beta, gamma = np.exp(rng.normal(0, 0.5, size=(3, 700)))
    weights = rng.exponential(size=700)
    weights /= weights.sum()

    found = SortedDevices.of(alpha, beta, gamma, weights).mean_ms(times, 0.02)

    dense = np.stack([dense_latency(times, 0.02, device) for device in zip(alpha, beta, gamma, strict=True)])
    np.testing.assert_allclose(found, weights @ dense, rtol=1e-9)


def test_devices_on_the_border_and_kernels_that_move_or_compute_nothing_are_counted_once() -> None:
    """Equal ratios of devices and kernels, a kernel without memory time, one without compute time, one without both."""
    times = KernelTimes(np.array([[2.0, 1.0, 3.0, 0.0, 0.0]]), np.array([[1.0, 1.0, 0.0, 2.0, 0.0]]), np.array([5]))
    alpha, beta, gamma = np.array([[1.0, 1.0, 2.0, 1.0], [1.0, 2.0, 0.5, 1.0], [2.0, 4.0, 0.5, 1.0]])

    found = SortedDevices.of(alpha, beta, gamma, np.full(4, 0.25)).mean_ms(times, 0.1)

    dense = [dense_latency(times, 0.1, device)[0] for device in zip(alpha, beta, gamma, strict=True)]
    assert found[0] == pytest.approx(np.mean(dense), rel=1e-12)


@pytest.mark.parametrize("scenario", ["same_config", "mixed", "harsh", {"base": "mixed", "stacks": TWO_MORE_STACKS}])
def test_a_fleets_mean_is_that_of_its_devices_whatever_their_software(scenario: object) -> None:
    fleet, load = simulated(scenario, 900), plans(1)

    dense = fleet.true_latency_ms(load)

    assert len(np.unique(fleet.states.stack_index)) == len(fleet.states.stacks)
    np.testing.assert_allclose(fleet.mean_latency_ms(load), dense.mean(axis=0), rtol=1e-9)


def test_means_of_single_kernels_add_up_to_the_mean_of_the_network() -> None:
    fleet, load = simulated({"base": "mixed", "stacks": TWO_MORE_STACKS}, 400), plans(3)
    times = {number: fleet._kernel_times(load, number) for number in range(3)}

    kernels = fleet.kernel_mean_ms({number: (each.compute_ms, each.memory_ms) for number, each in times.items()})

    launches = len(load.kernels) * fleet.profile.launch_us / 1000 * fleet.states.alpha.mean()
    assert kernels.shape == (4, len(load.kernels))
    np.testing.assert_allclose(kernels.sum(axis=1) + launches, fleet.mean_latency_ms(load), rtol=1e-9)


def test_the_mean_of_a_fleet_is_the_same_for_one_plan_and_for_many() -> None:
    fleet, load = simulated("mixed", 300), plans(5, n_plans=9)

    alone = [mean_of(fleet, load, plan) for plan in range(9)]

    np.testing.assert_array_equal(fleet.mean_latency_ms(load), alone)


def mean_of(fleet: SimulatedFleet, load: Workloads, plan: int) -> float:
    return float(fleet.mean_latency_ms(Workloads(load.kernels, load.widths[plan : plan + 1], ("one",)))[0])


def brute_percentile(latency: np.ndarray, weights: np.ndarray, percent: float) -> float:
    """Least latency that at least ``percent`` of the weight does not exceed."""
    wanted = percent / 100 * weights.sum() - 1e-12
    return min(value for value in latency if weights[latency <= value].sum() >= wanted)


@pytest.mark.parametrize("percent", [0, 1, 25, 50, 95, 100])
def test_weighted_percentiles_equal_a_search_over_all_devices(percent: float) -> None:
    rng = np.random.default_rng(int(percent))
    latency = rng.integers(1, 30, size=(80, 3)).astype(float)  # with ties
    weights = rng.exponential(size=80)
    weights /= weights.sum()

    found = weighted_percentile(latency, percent, weights)

    assert found.tolist() == [brute_percentile(column, weights, percent) for column in latency.T]


def test_percentiles_without_weights_are_those_of_numpy() -> None:
    latency = np.random.default_rng(0).exponential(size=(57, 2))

    np.testing.assert_array_equal(weighted_percentile(latency, 95), np.percentile(latency, 95, axis=0))


@pytest.mark.parametrize("level", [0.0, 0.5, 0.9, 0.97])
def test_cvar_is_the_mean_over_the_slowest_part_of_the_fleet(level: float) -> None:
    """Against copies: 1,000 parts of equal weight, of which the slowest are averaged."""
    rng = np.random.default_rng(3)
    parts = rng.multinomial(1000 - 60, np.full(60, 1 / 60)) + 1
    latency = rng.exponential(size=(60, 2))

    found = conditional_value_at_risk(latency, level, parts / 1000)

    slowest = np.sort(np.repeat(latency, parts, axis=0), axis=0)[round(level * 1000) :]
    np.testing.assert_allclose(found, slowest.mean(axis=0), rtol=1e-12)


def test_cvar_counts_the_device_on_the_border_with_its_part_beyond_it() -> None:
    found = conditional_value_at_risk(np.array([[1.0], [2.0], [4.0]]), 0.5)

    assert found[0] == pytest.approx((4 / 3 + 2 * (0.5 - 1 / 3)) / 0.5)


def test_cvar_lies_between_the_mean_and_the_slowest_device_and_rises_with_its_level() -> None:
    latency = simulated("harsh", 400).true_latency_ms(plans(2, 1))

    found = [conditional_value_at_risk(latency, level)[0] for level in (0, 0.5, 0.9, 0.999)]

    assert found[0] == pytest.approx(latency.mean())
    assert np.all(np.diff(found) > 0)
    assert found[-1] == pytest.approx(latency.max())


@pytest.mark.parametrize("level", [1.0, -0.1, 95.0])
def test_a_level_that_is_no_share_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level must be in"):
        conditional_value_at_risk(np.ones((3, 1)), level)
