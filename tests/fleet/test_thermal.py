"""Clocks under heat and supply, against plain searches and formulas."""

from __future__ import annotations

import numpy as np
import pytest

from hdapbench.fleet.thermal import Board, clocks
from hdapbench.latency.profile import SkuProfile, load_profile


def sustained(
    profile: SkuProfile, *, mode_mhz: float, ambient: object, watts: object, resistance: object
) -> np.ndarray:
    """Sustained clocks of boards with nominal silicon."""
    ambient, watts, resistance = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(v, float)) for v in (ambient, watts, resistance))
    )
    board = Board(
        mode_mhz=np.full(ambient.shape, mode_mhz),
        ambient_celsius=ambient,
        watts=watts,
        resistance=resistance,
        dynamic=np.ones(ambient.shape),
        leakage=np.full(ambient.shape, profile.power.leakage_watts),
    )
    return clocks(profile.power, board).sustained_mhz


def test_the_sustained_clock_is_the_largest_that_heat_and_supply_allow() -> None:
    """Against a search over a fine grid, straight from the formula."""
    profile = load_profile("xavier_nx")
    rng = np.random.default_rng(0)
    ambient, watts, resistance = rng.uniform(20, 55, 50), rng.uniform(7, 20, 50), rng.uniform(2, 9, 50)

    found = sustained(profile, mode_mhz=1109.25, ambient=ambient, watts=watts, resistance=resistance)

    grid = np.linspace(306, 1109.25, 40_001)
    for clock, *state in zip(found, ambient, watts, resistance, strict=True):
        limit = min((90.5 - state[0]) / state[2], state[1])
        ratio = grid / 1109.25
        allowed = grid[5.0 + 1.0 + 8.0 * ratio * (0.55 + 0.45 * ratio) ** 2 <= limit]
        expected = allowed.max() if len(allowed) else 306.0
        assert clock == pytest.approx(expected, abs=0.05)
    assert len(np.unique(found.round(3))) > 10  # not all at the ceiling or the floor


def test_heat_and_a_weak_supply_lower_the_clock_and_the_floor_holds() -> None:
    profile = load_profile("xavier_nx")

    by_ambient = sustained(profile, mode_mhz=1109.25, ambient=[20, 45, 55], watts=20, resistance=5.0)
    by_supply = sustained(profile, mode_mhz=1109.25, ambient=20, watts=[20, 12, 9], resistance=3.2)
    hopeless = sustained(profile, mode_mhz=1109.25, ambient=55, watts=1, resistance=50)

    assert np.all(np.diff(by_ambient) < 0)
    assert by_supply[0] == 1109.25
    assert np.all(np.diff(by_supply) < 0)
    assert hopeless == 306.0
