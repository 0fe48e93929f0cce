"""Scenarios: how the physical state of a fleet's devices is distributed, and what it does to their speed.

Distributions and formulas are those of docs/fleets.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hdapbench.arrays import Floats
from hdapbench.errors import FleetError
from hdapbench.fleet.simulated.engine import CURRENT_STACK, OLD_STACK, SoftwareStack
from hdapbench.fleet.simulated.profile import SkuProfile
from hdapbench.fleet.simulated.thermal import Board, clocks
from hdapbench.spec import ScenarioSpec, did_you_mean

_AMBIENT_RANGE = (-10.0, 55.0)
_WORN_SUPPLY = (0.55, 0.35)  # lowest share of the mode's watts, and how far above it a worn supply may lie
_DEVICES_AT_A_TIME = 1 << 16  # intermediate arrays stay in the cache


@dataclass(frozen=True)
class DevicePlace:
    """A kind of place: its share of the devices, and its ambient temperature in C."""

    share: float
    mean_celsius: float
    sd_celsius: float


@dataclass(frozen=True)
class Scenario:
    """Distributions of the physical state. ``*_log_sd`` are standard deviations of logarithms.

    Attributes
    ----------
    places
        Where devices stand; ambient temperatures are normal there, clipped to -10 .. 55 C.
    busy_share
        Share of the devices with background load; there ``gpu_load`` and ``memory_load`` are uniform between their
        ends.
    cpu_contention_mean
        Mean of the exponential CPU contention.
    capped_share
        Share of the devices with a worn supply, which gives .55 to .90 of the mode's watts.
    stacks
        Software stacks besides the current one, with their shares.
    modes
        Shares of power modes; None takes those of the SKU's profile for the scenario's name.
    """

    name: str
    places: tuple[DevicePlace, ...]
    thermal_resistance_log_sd: float
    dynamic_power_log_sd: float
    leakage_log_sd: float
    gpu_load: tuple[float, float]
    memory_load: tuple[float, float]
    cpu_contention_mean: float
    busy_share: float = 0.5
    capped_share: float = 0.0
    stacks: tuple[tuple[SoftwareStack, float], ...] = ()
    modes: tuple[tuple[str, float], ...] | None = None
    gpu_residual_log_sd: float = 0.030
    memory_residual_log_sd: float = 0.020
    launch_residual_log_sd: float = 0.05


def _places(office: float, retail: float, outdoor: float = 0.0, vehicle: float = 0.0) -> tuple[DevicePlace, ...]:
    every = (
        DevicePlace(office, 23, 2),
        DevicePlace(retail, 28, 4),
        DevicePlace(outdoor, 30, 9),
        DevicePlace(vehicle, 40, 9),
    )
    return tuple(place for place in every if place.share)


SCENARIOS = {
    "same_config": Scenario("same_config", _places(0.7, 0.3), 0.10, 0.05, 0.2, (0, 0.02), (0, 0.06), 0.075),
    "mixed": Scenario(
        "mixed", _places(0.35, 0.25, 0.25, 0.15), 0.30, 0.06, 0.3, (0, 0.15), (0, 0.20), 0.3, capped_share=0.05
    ),
    "harsh": Scenario(
        "harsh",
        _places(0.1, 0.1, 0.4, 0.4),
        0.45,
        0.08,
        0.4,
        (0, 0.35),
        (0, 0.45),
        1.0,
        capped_share=0.15,
        stacks=((OLD_STACK, 0.40),),
    ),
}


@dataclass(frozen=True)
class DeviceStates:
    """Physical state of devices and what follows from it, arrays of shape (n_devices,).

    Attributes
    ----------
    mode_names, mode_index
        Power modes, and which one each device is in.
    stacks, stack_index
        Software stacks, the current one first, and which one each device runs.
    clock_mhz, cold_clock_mhz, throttle_seconds
        The sustained clock, the clock after a cold start, and how long that lasts.
    alpha, beta, gamma
        Multipliers of launch, compute and memory time of the nominal board.
    """

    mode_names: tuple[str, ...]
    mode_index: NDArray[np.int8]
    stacks: tuple[SoftwareStack, ...]
    stack_index: NDArray[np.int8]
    ambient_celsius: Floats
    clock_mhz: Floats
    cold_clock_mhz: Floats
    throttle_seconds: Floats
    alpha: Floats
    beta: Floats
    gamma: Floats

    @property
    def mode(self) -> NDArray[np.str_]:
        """Name of each device's power mode, shape (n_devices,)."""
        return np.array(self.mode_names)[self.mode_index]


def resolve_scenario(spec: ScenarioSpec) -> Scenario:
    """Scenario of a spec: its base with everything changed that the spec names."""
    named = spec.model_dump(exclude={"base"}, exclude_none=True)
    if not named:
        return SCENARIOS[spec.base]
    changes = dict(named)
    if spec.modes is not None:
        changes["modes"] = tuple(spec.modes.items())
    if spec.places is not None:
        every = spec.places.values()
        changes["places"] = tuple(DevicePlace(place.share, place.mean_celsius, place.sd_celsius) for place in every)
    if spec.stacks is not None:
        changes["stacks"] = tuple(
            (SoftwareStack(stack.narrow_tile_factor, stack.depthwise_slowdown), stack.share) for stack in spec.stacks
        )
    return replace(SCENARIOS[spec.base], **changes)


def draw_states(
    profile: SkuProfile, scenario: Scenario, *, n_devices: int, seed: int, uptime_seconds: float | None = None
) -> DeviceStates:
    """States of devices; the first devices of a larger fleet of the same seed are the same.

    Parameters
    ----------
    uptime_seconds
        Time since a cold start under load; None is thermal equilibrium.

    Raises
    ------
    FleetError
        When the scenario names a power mode that the board lacks, or the board has no modes for it.
    """
    shares = _mode_shares(profile, scenario)
    draws = _Draws(seed)
    floats = {name: np.empty(n_devices) for name in _FLOATS}
    mode_index, stack_index = np.empty(n_devices, np.int8), np.empty(n_devices, np.int8)
    for first in range(0, n_devices, _DEVICES_AT_A_TIME):
        part = slice(first, min(first + _DEVICES_AT_A_TIME, n_devices))
        draws.n = part.stop - first
        mode_index[part] = np.minimum(draws.choice("mode", list(shares.values())), len(shares) - 1)
        stack_index[part] = draws.choice("stack", [share for _, share in scenario.stacks])
        # The current stack is number 0; `choice` answers with the number of shares when none of them was drawn.
        stack_index[part] = (stack_index[part] + 1) % (len(scenario.stacks) + 1)
        modes = [profile.modes[name] for name in shares]
        clock = {
            key: np.array([getattr(mode, key) for mode in modes], dtype=float)[mode_index[part]]
            for key in ("gpu_mhz", "memory_mhz", "cpu_mhz", "watts")
        }
        for name, values in _physics(profile, scenario, draws, clock, uptime_seconds).items():
            floats[name][part] = values
    stacks = (CURRENT_STACK, *(stack for stack, _ in scenario.stacks))
    return DeviceStates(tuple(shares), mode_index, stacks, stack_index, **floats)


_FLOATS = ("ambient_celsius", "clock_mhz", "cold_clock_mhz", "throttle_seconds", "alpha", "beta", "gamma")


def _physics(
    profile: SkuProfile, law: Scenario, draw: _Draws, mode: dict[str, Floats], uptime_seconds: float | None
) -> dict[str, Floats]:
    """Everything but mode and stack of the next devices."""
    place = draw.choice("place", [place.share for place in law.places])
    mean, spread = np.array([(place.mean_celsius, place.sd_celsius) for place in law.places]).T
    place = np.minimum(place, len(law.places) - 1)
    ambient = np.clip(mean[place] + spread[place] * draw.normal("ambient"), *_AMBIENT_RANGE)
    capped = draw.uniform("capped") < law.capped_share
    lowest, span = _WORN_SUPPLY
    board = Board(
        mode_mhz=mode["gpu_mhz"],
        ambient_celsius=ambient,
        watts=np.where(capped, mode["watts"] * (lowest + span * draw.uniform("cap")), mode["watts"]),
        resistance=profile.power.resistance_kelvin_per_watt
        * draw.log_normal("resistance", law.thermal_resistance_log_sd),
        dynamic=draw.log_normal("dynamic", law.dynamic_power_log_sd),
        leakage=profile.power.leakage_watts * draw.log_normal("leakage", law.leakage_log_sd),
    )
    found = clocks(profile.power, board)
    clock = found.sustained_mhz
    if uptime_seconds is not None:
        clock = np.where(found.throttle_seconds > uptime_seconds, found.cold_mhz, found.sustained_mhz)
    busy = draw.uniform("busy") < law.busy_share
    gpu_load = np.where(busy, draw.between("gpu load", law.gpu_load), 0.0)
    memory_load = np.where(busy, draw.between("memory load", law.memory_load), 0.0)
    contention = -law.cpu_contention_mean * np.log1p(-draw.uniform("cpu contention"))
    residual = draw.log_normal("memory", law.memory_residual_log_sd)
    return {
        "ambient_celsius": ambient,
        "clock_mhz": found.sustained_mhz,
        "cold_clock_mhz": found.cold_mhz,
        "throttle_seconds": found.throttle_seconds,
        "alpha": profile.cpu_mhz
        / mode["cpu_mhz"]
        * (1 + contention)
        * draw.log_normal("launch", law.launch_residual_log_sd),
        "beta": profile.gpu_mhz / clock / (1 - gpu_load) * draw.log_normal("gpu", law.gpu_residual_log_sd),
        "gamma": profile.memory_mhz / mode["memory_mhz"] / (1 - memory_load) / (1 - gpu_load / 2) * residual,
    }


def _mode_shares(profile: SkuProfile, scenario: Scenario) -> dict[str, float]:
    shares = profile.scenario_modes.get(scenario.name) if scenario.modes is None else dict(scenario.modes)
    if shares is None:
        known = ", ".join(profile.scenario_modes)
        raise FleetError(f"'{profile.name}' knows no scenario '{scenario.name}'. Known: {known}")
    for name in shares:
        if name not in profile.modes:
            hint = did_you_mean(name, profile.modes)
            raise FleetError(f"scenario.modes: '{profile.name}' has no power mode '{name}'{hint}")
    return shares


class _Draws:
    """Random numbers per quantity, each from a stream of its own: devices do not depend on how many there are."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._streams: dict[str, np.random.Generator] = {}
        self.n = 0

    def _stream(self, quantity: str) -> np.random.Generator:
        if quantity not in self._streams:
            self._streams[quantity] = np.random.default_rng([self._seed, *quantity.encode()])
        return self._streams[quantity]

    def uniform(self, quantity: str) -> Floats:
        return self._stream(quantity).random(self.n)

    def between(self, quantity: str, ends: tuple[float, float]) -> Floats:
        return np.asarray(ends[0] + (ends[1] - ends[0]) * self.uniform(quantity))

    def normal(self, quantity: str) -> Floats:
        return self._stream(quantity).standard_normal(self.n)

    def log_normal(self, quantity: str, log_sd: float) -> Floats:
        return np.asarray(np.exp(log_sd * self.normal(quantity)))

    def choice(self, quantity: str, shares: list[float]) -> NDArray[np.intp]:
        """Number of the share that a uniform draw falls into; ``len(shares)`` beyond their sum."""
        return np.searchsorted(np.cumsum(shares), self.uniform(quantity), side="right")
