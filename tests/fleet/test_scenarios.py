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


@pytest.mark.parametrize(("sku", "scenario"), EVERY)
def test_modes_occur_as_often_as_the_profile_says(sku: str, scenario: str) -> None:
    profile = load_profile(sku)
    n_devices = 20_000

    modes = states_of(profile, scenario, n_devices=n_devices, seed=2).mode

    for mode, share in profile.scenario_modes[scenario].items():
        spread = np.sqrt(share * (1 - share) / n_devices)
        assert abs((modes == mode).mean() - share) <= 4 * spread


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


def test_only_harsh_fleets_hold_old_software_on_four_boards_in_ten() -> None:
    profile = load_profile("nano")

    share = {name: states_of(profile, name, n_devices=5000, seed=0).stack_index.mean() for name in SCENARIOS}

    assert share["same_config"] == share["mixed"] == 0.0
    assert 0.37 < share["harsh"] < 0.43


def test_background_load_falls_on_half_of_the_boards() -> None:
    """Boards of one mode that no heat slows: beta is residual alone, or residual and load."""
    profile = load_profile("xavier_nx")
    states = states_of(profile, "harsh", n_devices=20_000, seed=5)
    cool = (states.mode == "10W_DESKTOP") & (states.clock_mhz == 510)

    free = states.beta[cool] / (1109.25 / 510)

    # The residual alone exceeds 1.1 in 1 of 1000; with a uniform load up to 0.35 three in four of the busy boards do.
    assert 0.30 < (free > 1.1).mean() < 0.45


def test_an_unknown_scenario_is_refused_with_the_known_ones() -> None:
    with pytest.raises(FleetError, match=r"'nano' knows no scenario 'arctic'. Known: same_config, mixed, harsh"):
        draw_states(load_profile("nano"), replace(SCENARIOS["mixed"], name="arctic"), n_devices=1, seed=0)


def test_multipliers_follow_from_load_and_clocks_alone_without_residuals() -> None:
    profile = load_profile("xavier_nx")
    bare = replace(
        SCENARIOS["mixed"],
        memory_load=(0.0, 0.0),
        cpu_contention_mean=0.0,
        gpu_residual_log_sd=0.0,
        memory_residual_log_sd=0.0,
        launch_residual_log_sd=0.0,
    )

    states = draw_states(profile, bare, n_devices=300, seed=0)

    gpu_load = 1 - profile.gpu_mhz / states.clock_mhz / states.beta
    assert gpu_load.min() == pytest.approx(0.0, abs=1e-12)
    assert 0.10 < gpu_load.max() < 0.15
    modes = [profile.modes[mode] for mode in states.mode]
    memory_ratio = np.array([1600 / mode.memory_mhz for mode in modes])
    np.testing.assert_allclose(states.gamma, memory_ratio / (1 - gpu_load / 2), rtol=1e-12)
    np.testing.assert_allclose(states.alpha, [1400 / mode.cpu_mhz for mode in modes], rtol=1e-12)


@pytest.mark.parametrize(("scenario", "share"), [("same_config", 0.0), ("mixed", 0.05), ("harsh", 0.15)])
def test_worn_supplies_slow_at_most_their_share_of_the_boards(scenario: str, share: float) -> None:
    profile = load_profile("xavier_nx")
    without = replace(SCENARIOS[scenario], capped_share=0.0)

    worn = states_of(profile, scenario, n_devices=5000, seed=0).clock_mhz
    sound = draw_states(profile, without, n_devices=5000, seed=0).clock_mhz

    assert np.all(worn <= sound)
    assert 0.3 * share <= (worn < sound).mean() <= 1.1 * share
