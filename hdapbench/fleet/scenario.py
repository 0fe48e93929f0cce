"""Scenarios: how the physical state of a fleet's devices is distributed, and what it does to their speed.

Distributions and formulas are those of docs/fleets.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hdapbench.errors import FleetError
from hdapbench.latency.profile import SkuProfile

Floats = NDArray[np.float64]

_PLACES = {"office": (23.0, 2.0), "retail": (28.0, 4.0), "outdoor": (30.0, 9.0), "vehicle": (40.0, 9.0)}
_AMBIENT_RANGE = (-10.0, 55.0)


@dataclass(frozen=True)
class Scenario:
    """Distributions of the physical state. ``*_log_sd`` are standard deviations of logarithms.

    ``places`` maps a kind of place to its share; ambient temperatures in C are normal there. Background GPU and
    memory load are uniform up to their maxima on half of the boards; CPU contention is exponential. ``capped_share``
    of the boards have a worn supply that gives .55 to .90 of the mode's watts. ``old_stack_share`` run an older
    software stack.
    """

    places: dict[str, float]
    resistance_log_sd: float
    dynamic_log_sd: float
    leakage_log_sd: float
    gpu_load_max: float
    memory_load_max: float
    cpu_contention_mean: float
    capped_share: float = 0.0
    old_stack_share: float = 0.0
    gpu_residual_log_sd: float = 0.030
    memory_residual_log_sd: float = 0.020
    launch_residual_log_sd: float = 0.05


SCENARIOS = {
    "same_config": Scenario({"office": 0.7, "retail": 0.3}, 0.10, 0.05, 0.2, 0.02, 0.06, 0.075),
    "mixed": Scenario(
        {"office": 0.35, "retail": 0.25, "outdoor": 0.25, "vehicle": 0.15},
        0.30,
        0.06,
        0.3,
        0.15,
        0.20,
        0.3,
        capped_share=0.05,
    ),
    "harsh": Scenario(
        {"office": 0.1, "retail": 0.1, "outdoor": 0.4, "vehicle": 0.4},
        0.45,
        0.08,
        0.4,
        0.35,
        0.45,
        1.0,
        capped_share=0.15,
        old_stack_share=0.40,
    ),
}


@dataclass(frozen=True)
class DeviceStates:
    """Physical state of devices and what follows from it, arrays of shape (n_devices,).

    ``alpha``, ``beta`` and ``gamma`` multiply launch, compute and memory time of the nominal board.
    """

    mode: NDArray[np.str_]
    ambient_celsius: Floats
    clock_mhz: Floats
    old_stack: NDArray[np.bool_]
    alpha: Floats
    beta: Floats
    gamma: Floats


def draw_states(profile: SkuProfile, scenario: str, *, n_devices: int, seed: int) -> DeviceStates:
    """States of devices; the first devices of a larger fleet of the same seed are the same.

    Raises
    ------
    FleetError
        When the scenario is unknown to the board.
    """
    if scenario not in SCENARIOS or scenario not in profile.scenario_modes:
        raise FleetError(f"'{profile.name}' knows no scenario '{scenario}'. Known: {', '.join(profile.scenario_modes)}")
    law = SCENARIOS[scenario]
    draw = _Draws(seed, n_devices)
    mode_names = list(profile.scenario_modes[scenario])
    modes = [profile.modes[name] for name in mode_names]
    mode = draw.choice("mode", list(profile.scenario_modes[scenario].values()))
    place = draw.choice("place", list(law.places.values()))
    mean, spread = np.array([_PLACES[name] for name in law.places]).T
    ambient = np.clip(mean[place] + spread[place] * draw.normal("ambient"), *_AMBIENT_RANGE)
    watts = np.array([m.watts for m in modes])[mode]
    capped = draw.uniform("capped") < law.capped_share
    watts = np.where(capped, watts * (0.55 + 0.35 * draw.uniform("cap")), watts)
    clock = sustained_clock(
        profile,
        mode_mhz=np.array([m.gpu_mhz for m in modes])[mode],
        ambient_celsius=ambient,
        watts=watts,
        resistance=profile.power.resistance_kelvin_per_watt * np.exp(law.resistance_log_sd * draw.normal("resistance")),
        dynamic=np.exp(law.dynamic_log_sd * draw.normal("dynamic")),
        leakage=profile.power.leakage_watts * np.exp(law.leakage_log_sd * draw.normal("leakage")),
    )
    busy = draw.uniform("busy") < 0.5
    gpu_load = np.where(busy, law.gpu_load_max * draw.uniform("gpu load"), 0.0)
    memory_load = np.where(busy, law.memory_load_max * draw.uniform("memory load"), 0.0)
    contention = -law.cpu_contention_mean * np.log1p(-draw.uniform("cpu contention"))
    cpu_mhz, memory_mhz = (np.array([getattr(m, key) for m in modes])[mode] for key in ("cpu_mhz", "memory_mhz"))
    return DeviceStates(
        mode=np.array(mode_names)[mode],
        ambient_celsius=ambient,
        clock_mhz=clock,
        old_stack=draw.uniform("stack") < law.old_stack_share,
        alpha=profile.cpu_mhz / cpu_mhz * (1 + contention) * draw.log_normal("launch", law.launch_residual_log_sd),
        beta=profile.gpu_mhz / clock / (1 - gpu_load) * draw.log_normal("gpu", law.gpu_residual_log_sd),
        gamma=profile.memory_mhz
        / memory_mhz
        / (1 - memory_load)
        / (1 - gpu_load / 2)
        * draw.log_normal("memory", law.memory_residual_log_sd),
    )


def sustained_clock(
    profile: SkuProfile,
    *,
    mode_mhz: Floats,
    ambient_celsius: Floats,
    watts: Floats,
    resistance: Floats,
    dynamic: Floats,
    leakage: Floats,
) -> Floats:
    """Highest GPU clock in MHz that heat and supply allow for good, shape (n_devices,).

    The largest ``f`` up to the mode's clock with
    ``base + leakage + dynamic * f/f0 * (v0 + (1 - v0) * f/f0)**2 <= min((T_throttle - T_ambient) / R, watts)``.
    """
    power = profile.power
    limit = np.minimum((power.throttle_celsius - ambient_celsius) / resistance, watts)

    def fits(clock: Floats) -> NDArray[np.bool_]:
        ratio = clock / power.reference_mhz
        voltage = power.voltage_floor + (1 - power.voltage_floor) * ratio
        drawn = power.base_watts + leakage + power.dynamic_watts * dynamic * ratio * voltage**2
        return np.asarray(drawn <= limit)

    low, high = np.full_like(mode_mhz, power.minimum_mhz), mode_mhz.astype(float)
    free = fits(high)
    for _ in range(50):  # 50 halvings reach float64 resolution
        middle = (low + high) / 2
        good = fits(middle)
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    return np.where(free, mode_mhz, low)


class _Draws:
    """Random numbers per quantity, each from a stream of its own: devices do not depend on how many there are."""

    def __init__(self, seed: int, n_devices: int) -> None:
        self._seed, self._n = seed, n_devices

    def _stream(self, quantity: str) -> np.random.Generator:
        return np.random.default_rng([self._seed, *quantity.encode()])

    def uniform(self, quantity: str) -> Floats:
        return self._stream(quantity).random(self._n)

    def normal(self, quantity: str) -> Floats:
        return self._stream(quantity).standard_normal(self._n)

    def log_normal(self, quantity: str, log_sd: float) -> Floats:
        return np.asarray(np.exp(log_sd * self.normal(quantity)))

    def choice(self, quantity: str, shares: list[float]) -> NDArray[np.intp]:
        position = np.searchsorted(np.cumsum(shares), self.uniform(quantity), side="right")
        return np.minimum(position, len(shares) - 1)
