"""Clocks under heat and supply, against plain searches and formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hdapbench.fleet.simulated.profile import SkuProfile, load_profile
from hdapbench.fleet.simulated.thermal import Board, clocks, drawn_watts, highest_clock
from tests.fleet.making import simulated
from tests.fleet.state_reference import BOARDS, clock, throttle_after


def boards(profile: SkuProfile, n_devices: int, seed: int = 0) -> Board:
    """Boards of any mode, silicon, supply and place."""
    rng = np.random.default_rng(seed)
    power = profile.power
    return Board(
        mode_mhz=rng.choice([mode.gpu_mhz for mode in profile.modes.values()], n_devices),
        ambient_celsius=rng.uniform(-10, 55, n_devices),
        watts=rng.uniform(0.4, 1.6, n_devices) * (power.base_watts + power.dynamic_watts),
        resistance=power.resistance_kelvin_per_watt * np.exp(0.5 * rng.standard_normal(n_devices)),
        dynamic=np.exp(0.1 * rng.standard_normal(n_devices)),
        leakage=power.leakage_watts * np.exp(0.4 * rng.standard_normal(n_devices)),
    )


@pytest.mark.parametrize("sku", BOARDS)
def test_clocks_equal_those_of_a_bisection(sku: str) -> None:
    profile, reference = load_profile(sku), BOARDS[sku]
    board = boards(profile, 500, seed=1)

    found = clocks(profile.power, board)

    sustained, cold = [], []
    for mode, ambient, supply, resistance, dynamic, leakage in zip(*vars(board).values(), strict=True):
        heat = (reference["heat"]["throttle"] - ambient) / resistance
        sustained.append(clock(reference["power"], dynamic, leakage, mode, min(heat, supply)))
        cold.append(clock(reference["power"], dynamic, leakage, mode, supply))
    np.testing.assert_allclose(found.sustained_mhz, sustained, rtol=1e-9)
    np.testing.assert_allclose(found.cold_mhz, cold, rtol=1e-9)
    at_mode, at_floor = found.sustained_mhz == board.mode_mhz, found.sustained_mhz == reference["power"]["fmin"]
    assert at_mode.any()
    assert at_floor.any()
    assert (~at_mode & ~at_floor).sum() > 50  # the power curve decides


@pytest.mark.parametrize("sku", BOARDS)
def test_boards_throttle_when_their_warming_reaches_the_throttling_temperature(sku: str) -> None:
    profile, heat = load_profile(sku), BOARDS[sku]["heat"]
    board = boards(profile, 500, seed=2)

    found = clocks(profile.power, board)

    drawn = drawn_watts(profile.power, board, found.cold_mhz)
    expected = [
        throttle_after(heat, *device) for device in zip(board.ambient_celsius, board.resistance, drawn, strict=True)
    ]
    np.testing.assert_allclose(found.throttle_seconds, expected, rtol=1e-9)
    finite = np.isfinite(found.throttle_seconds)
    assert 50 < finite.sum() < 450
    steady = board.ambient_celsius + board.resistance * drawn
    at_that_time = steady + (board.ambient_celsius - steady) * np.exp(-found.throttle_seconds / heat["tau"])
    np.testing.assert_allclose(at_that_time[finite], heat["throttle"], rtol=1e-9)
    np.testing.assert_array_equal(found.sustained_mhz[~finite], found.cold_mhz[~finite])
    assert np.all(found.sustained_mhz <= found.cold_mhz)


def test_a_board_in_a_mode_below_the_minimum_clock_does_not_lower_the_floor_of_others() -> None:
    profile = load_profile("xavier_nx")
    hopeless = replace(boards(profile, 2), mode_mhz=np.array([200.0, 1109.25]))

    found = highest_clock(profile.power, hopeless, np.ones(2))

    assert found.tolist() == [200.0, 306.0]


def test_a_fleet_says_how_long_its_devices_have_been_up() -> None:
    assert simulated(uptime_seconds=60.0).describe()["uptime_seconds"] == 60.0
    assert "uptime_seconds" not in simulated().describe()
