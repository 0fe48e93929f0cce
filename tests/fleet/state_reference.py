"""Devices of a scenario in plain scalar Python, one at a time: what the vectorised ones must equal.

Draws every quantity from its named stream, finds clocks by bisection, and writes all constants out again, so that a
wrong profile or a wrong scenario fails too.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, log, log1p

import numpy as np

BOARDS = {
    "xavier_nx": {
        "gpu": 1109.25,
        "emc": 1600,
        "cpu": 1400,
        "power": {"p0": 5.0, "leak": 1.0, "dyn": 8.0, "v0": 0.55, "f0": 1109.25, "fmin": 306},
        "heat": {"throttle": 90.5, "resistance": 3.2, "tau": 300},
        "modes": {
            "20W_6CORE": (1109.25, 1866, 1400, 20),
            "15W_6CORE": (1109.25, 1600, 1400, 15),
            "15W_2CORE": (1109.25, 1600, 1900, 15),
            "10W_4CORE": (803.25, 1600, 1200, 10),
            "10W_2CORE": (803.25, 1600, 1500, 10),
            "10W_DESKTOP": (510, 1600, 1900, 10),
        },
        "shares": {
            "same_config": {"15W_6CORE": 1.0},
            "mixed": dict(
                zip(
                    ("20W_6CORE", "15W_6CORE", "15W_2CORE", "10W_4CORE", "10W_2CORE", "10W_DESKTOP"),
                    (0.15, 0.35, 0.15, 0.15, 0.10, 0.10),
                    strict=True,
                )
            ),
            "harsh": dict(
                zip(
                    ("20W_6CORE", "15W_6CORE", "10W_4CORE", "10W_2CORE", "10W_DESKTOP"),
                    (0.20, 0.20, 0.20, 0.10, 0.30),
                    strict=True,
                )
            ),
        },
    },
    "nano": {
        "gpu": 921.6,
        "emc": 1600,
        "cpu": 1479,
        "power": {"p0": 2.2, "leak": 0.5, "dyn": 5.0, "v0": 0.60, "f0": 921.6, "fmin": 307.2},
        "heat": {"throttle": 97, "resistance": 7.0, "tau": 240},
        "modes": {"MAXN": (921.6, 1600, 1479, 10), "5W": (640, 1600, 918, 5)},
        "shares": {
            "same_config": {"MAXN": 1.0},
            "mixed": {"MAXN": 0.65, "5W": 0.35},
            "harsh": {"MAXN": 0.40, "5W": 0.60},
        },
    },
}
PLACES = {"office": (23, 2), "retail": (28, 4), "outdoor": (30, 9), "vehicle": (40, 9)}
LAWS = {
    "same_config": {
        "places": {"office": 0.7, "retail": 0.3},
        "log_sd": {"resistance": 0.10, "dynamic": 0.05, "leakage": 0.2},
        "load": {"gpu": 0.02, "memory": 0.06, "cpu": 0.075},
        "capped": 0.0,
        "old": 0.0,
    },
    "mixed": {
        "places": {"office": 0.35, "retail": 0.25, "outdoor": 0.25, "vehicle": 0.15},
        "log_sd": {"resistance": 0.30, "dynamic": 0.06, "leakage": 0.3},
        "load": {"gpu": 0.15, "memory": 0.20, "cpu": 0.3},
        "capped": 0.05,
        "old": 0.0,
    },
    "harsh": {
        "places": {"office": 0.1, "retail": 0.1, "outdoor": 0.4, "vehicle": 0.4},
        "log_sd": {"resistance": 0.45, "dynamic": 0.08, "leakage": 0.4},
        "load": {"gpu": 0.35, "memory": 0.45, "cpu": 1.0},
        "capped": 0.15,
        "old": 0.40,
    },
}


@dataclass(frozen=True)
class Device:
    """What the scalar model says about one device; ``old`` when it runs the older software stack."""

    mode: str
    alpha: float
    beta: float
    gamma: float
    sustained_mhz: float
    cold_mhz: float
    throttle_seconds: float
    old: bool


class Streams:
    """One stream of random numbers per quantity."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.made: dict[str, np.random.Generator] = {}

    def __getitem__(self, name: str) -> np.random.Generator:
        if name not in self.made:
            self.made[name] = np.random.default_rng([self.seed, *name.encode()])
        return self.made[name]

    def pick(self, name: str, shares: dict[str, float]) -> str:
        drawn, reached = self[name].random(), 0.0
        for value, share in shares.items():
            reached += share
            if drawn < reached:
                return value
        return value


def watts(power: dict, dynamic: float, leakage: float, mhz: float) -> float:
    """Power drawn at a clock."""
    ratio = mhz / power["f0"]
    return power["p0"] + leakage + power["dyn"] * dynamic * ratio * (power["v0"] + (1 - power["v0"]) * ratio) ** 2


def clock(power: dict, dynamic: float, leakage: float, mode_mhz: float, limit: float) -> float:
    """Largest clock that draws at most ``limit`` watts, by bisection."""
    low, high = power["fmin"], mode_mhz
    if watts(power, dynamic, leakage, high) <= limit:
        return high
    if watts(power, dynamic, leakage, low) >= limit:
        return low
    for _ in range(200):
        middle = (low + high) / 2
        if watts(power, dynamic, leakage, middle) <= limit:
            low = middle
        else:
            high = middle
    return low


def throttle_after(heat: dict, ambient: float, resistance: float, drawn: float) -> float:
    """Seconds until ``T(t) = T_ss + (T_amb - T_ss) exp(-t / tau)`` reaches the throttling temperature."""
    steady = ambient + resistance * drawn
    if steady <= heat["throttle"]:
        return inf
    return heat["tau"] * log((steady - ambient) / (steady - heat["throttle"]))


def draw_device(sku: str, scenario: str, draw: Streams, uptime: float | None) -> Device:
    """The next device of the streams."""
    board, law = BOARDS[sku], LAWS[scenario]
    power, heat = board["power"], board["heat"]
    mode = draw.pick("mode", board["shares"][scenario])
    gpu, emc, cpu, supply = board["modes"][mode]
    old = draw["stack"].random() < law["old"]
    mean, spread = PLACES[draw.pick("place", law["places"])]
    ambient = min(max(mean + spread * draw["ambient"].standard_normal(), -10.0), 55.0)
    capped, cap = draw["capped"].random() < law["capped"], 0.55 + 0.35 * draw["cap"].random()
    supply = supply * cap if capped else supply
    resistance = heat["resistance"] * exp(law["log_sd"]["resistance"] * draw["resistance"].standard_normal())
    dynamic = exp(law["log_sd"]["dynamic"] * draw["dynamic"].standard_normal())
    leakage = power["leak"] * exp(law["log_sd"]["leakage"] * draw["leakage"].standard_normal())
    sustained = clock(power, dynamic, leakage, gpu, min((heat["throttle"] - ambient) / resistance, supply))
    cold = clock(power, dynamic, leakage, gpu, supply)
    seconds = throttle_after(heat, ambient, resistance, watts(power, dynamic, leakage, cold))
    now = cold if uptime is not None and uptime < seconds else sustained
    busy = draw["busy"].random() < 0.5
    gpu_load = law["load"]["gpu"] * draw["gpu load"].random() * busy
    memory_load = law["load"]["memory"] * draw["memory load"].random() * busy
    contention = -law["load"]["cpu"] * log1p(-draw["cpu contention"].random())
    residual = {
        name: exp(sd * draw[name].standard_normal()) for name, sd in (("gpu", 0.03), ("memory", 0.02), ("launch", 0.05))
    }
    return Device(
        mode=mode,
        alpha=board["cpu"] / cpu * (1 + contention) * residual["launch"],
        beta=board["gpu"] / now / (1 - gpu_load) * residual["gpu"],
        gamma=board["emc"] / emc / (1 - memory_load) / (1 - gpu_load / 2) * residual["memory"],
        sustained_mhz=sustained,
        cold_mhz=cold,
        throttle_seconds=seconds,
        old=old,
    )


def draw_devices(sku: str, scenario: str, n_devices: int, seed: int, uptime: float | None = None) -> list[Device]:
    """Devices of a fleet."""
    draw = Streams(seed)
    return [draw_device(sku, scenario, draw, uptime) for _ in range(n_devices)]
