"""Heat and supply: the clock that a board sustains, the clock it starts with, and how long that lasts.

Formulas are those of docs/fleets.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hdapbench.arrays import Floats
from hdapbench.fleet.simulated.profile import PowerModel

_NEWTON_STEPS = 40  # the power curve is convex and rising: from above, Newton's steps never overshoot


@dataclass(frozen=True)
class Board:
    """What bears on the clock of each device, arrays of shape (n_devices,).

    Attributes
    ----------
    mode_mhz
        GPU clock that the power mode asks for.
    ambient_celsius, watts
        Temperature around the device, and what its supply gives.
    resistance
        Thermal resistance in K/W.
    dynamic
        Dynamic power relative to nominal silicon.
    leakage
        Leakage power in W.
    """

    mode_mhz: Floats
    ambient_celsius: Floats
    watts: Floats
    resistance: Floats
    dynamic: Floats
    leakage: Floats


@dataclass(frozen=True)
class Clocks:
    """GPU clocks of each device in MHz, arrays of shape (n_devices,).

    Attributes
    ----------
    sustained_mhz
        The clock in thermal equilibrium.
    cold_mhz
        The clock after a cold start, limited by mode and supply alone.
    throttle_seconds
        Time from a cold start under load until heat forces the sustained clock; infinite where it never does.
    """

    sustained_mhz: Floats
    cold_mhz: Floats
    throttle_seconds: Floats


def drawn_watts(power: PowerModel, board: Board, clock_mhz: Floats) -> Floats:
    """Power in W at clocks, shape (n_devices,): ``base + leakage + dynamic * f/f0 * (v0 + (1 - v0) * f/f0)**2``."""
    ratio = clock_mhz / power.reference_mhz
    voltage = power.voltage_floor + (1 - power.voltage_floor) * ratio
    return np.asarray(power.base_watts + board.leakage + power.dynamic_watts * board.dynamic * ratio * voltage**2)


def highest_clock(power: PowerModel, board: Board, limit_watts: Floats) -> Floats:
    """Largest clock in MHz up to the mode's that draws at most ``limit_watts``, and at least the board's minimum.

    Clocks and limits are of shape (n_devices,).
    """
    clock = board.mode_mhz.astype(float)
    over = np.flatnonzero(drawn_watts(power, board, clock) > limit_watts)
    if not over.size:
        return clock
    floor = power.voltage_floor
    # With x = f/f0: x * (v0 + (1 - v0) x)**2 = (limit - base - leakage) / dynamic.
    wanted = (limit_watts[over] - power.base_watts - board.leakage[over]) / (power.dynamic_watts * board.dynamic[over])
    lowest = np.minimum(power.minimum_mhz, clock[over]) / power.reference_mhz
    wanted = np.maximum(wanted, lowest * (floor + (1 - floor) * lowest) ** 2)  # no board runs below its minimum
    ratio = clock[over] / power.reference_mhz
    for _ in range(_NEWTON_STEPS):
        voltage = floor + (1 - floor) * ratio
        excess = ratio * voltage**2 - wanted
        step = excess / (voltage * (voltage + 2 * (1 - floor) * ratio))
        ratio = ratio - step
        if np.abs(step).max() < 1e-15:
            break
    clock[over] = np.clip(ratio * power.reference_mhz, lowest * power.reference_mhz, clock[over])
    return clock


def clocks(power: PowerModel, board: Board) -> Clocks:
    """Clocks of each device, and how long the cold one lasts.

    A board warms by ``T(t) = T_ss + (T_ambient - T_ss) * exp(-t / tau)`` with ``T_ss = T_ambient + R * P(f_cold)`` and
    keeps its cold clock until ``T(t)`` reaches the throttling temperature.
    """
    supply = board.watts
    heat = (power.throttle_celsius - board.ambient_celsius) / board.resistance
    sustained = highest_clock(power, board, np.minimum(heat, supply))
    cold = highest_clock(power, board, supply)
    rise = board.resistance * drawn_watts(power, board, cold)  # T_ss - T_ambient
    room = power.throttle_celsius - board.ambient_celsius
    seconds = np.full(len(cold), np.inf)
    hot = rise > room
    seconds[hot] = power.time_constant_seconds * np.log(rise[hot] / (rise[hot] - room[hot]))
    return Clocks(sustained, cold, seconds)
