from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hdapbench.errors import FleetError
from hdapbench.fleet.simulated.profile import SkuProfile, load_profile
from hdapbench.fleet.simulated.scenario import SCENARIOS, DeviceStates, draw_states

EVERY = [(sku, scenario) for sku in ("xavier_nx", "nano") for scenario in SCENARIOS]


def states_of(profile: SkuProfile, scenario: str, *, n_devices: int, seed: int) -> DeviceStates:
    """States of devices in a scenario that ships."""
    return draw_states(profile, SCENARIOS[scenario], n_devices=n_devices, seed=seed)


@pytest.mark.parametrize(("sku", "scenario"), EVERY)
def test_states_are_physical(sku: str, scenario: str) -> None:
    profile = load_profile(sku)

    states = states_of(profile, scenario, n_devices=5000, seed=1)

    ceilings = np.array([profile.modes[mode].gpu_mhz for mode in states.mode])
    assert np.all((states.clock_mhz >= profile.power.minimum_mhz) & (states.clock_mhz <= ceilings))
    assert states.ambient_celsius.min() >= -10
    assert states.ambient_celsius.max() <= 55
    for multiplier in (states.alpha, states.beta, states.gamma):
        assert np.all(np.isfinite(multiplier) & (multiplier > 0.5))


@pytest.mark.parametrize(("sku", "scenario"), EVERY)
def test_devices_are_the_same_in_a_fleet_of_any_size(sku: str, scenario: str) -> None:
    profile = load_profile(sku)

    few = states_of(profile, scenario, n_devices=7, seed=3)
    many = states_of(profile, scenario, n_devices=1000, seed=3)

    names = ("mode", "stack_index", "ambient_celsius", "clock_mhz", "cold_clock_mhz", "throttle_seconds")
    for name in (*names, "alpha", "beta", "gamma"):
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[:7])


def test_another_seed_gives_other_devices() -> None:
    profile = load_profile("xavier_nx")

    beta = [states_of(profile, "mixed", n_devices=5, seed=seed).beta for seed in (0, 1)]

    assert not np.any(beta[0] == beta[1])


def test_one_configuration_differs_by_about_ten_percent_over_ten_boards() -> None:
    """The spread that the reference study set same_config to, best board to worst."""
    profile = load_profile("xavier_nx")

    ratios = []
    for seed in range(200):
        beta = states_of(profile, "same_config", n_devices=10, seed=seed).beta
        ratios.append(beta.max() / beta.min())

    assert 1.07 < np.median(ratios) < 1.15


def test_scenarios_grow_harsher_in_spread_and_level() -> None:
    profile = load_profile("xavier_nx")

    states = [states_of(profile, scenario, n_devices=5000, seed=0) for scenario in SCENARIOS]

    for name in ("alpha", "beta", "gamma"):
        values = [getattr(state, name) for state in states]
        assert np.all(np.diff([value.std() for value in values]) > 0), name
        assert np.all(np.diff([value.mean() for value in values]) > 0), name


def test_an_unknown_scenario_is_refused_with_the_known_ones() -> None:
    with pytest.raises(FleetError, match=r"'nano' knows no scenario 'arctic'. Known: same_config, mixed, harsh"):
        draw_states(load_profile("nano"), replace(SCENARIOS["mixed"], name="arctic"), n_devices=1, seed=0)
