"""SimulatedFleet: devices of a board profile in a scenario, with measurement noise; reproducible and marked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hdapbench.fleet.base import Fleet, Floats, Integers, LatencySource, Workloads
from hdapbench.fleet.scenario import DeviceStates, draw_states
from hdapbench.latency.engine import device_latency_ms, kernel_times
from hdapbench.latency.profile import load_profile
from hdapbench.spec import SimulatedFleetSpec

NOISE_LOG_SD = 0.02
SPIKE_PROBABILITY = 0.03
SPIKE_MEAN = 0.5
SESSION_DRIFT_LOG_SD = 0.01


class SimulatedFleet(Fleet):
    """Devices computed from the reference model of docs/fleets.md.

    Measurements carry log-normal noise of 2 %, with probability 3 % a spike of 50 % on average, and each device drifts
    by 1 % from session to session.

    Parameters
    ----------
    spec
        SKU, scenario, number of devices, seed and precision.

    Raises
    ------
    FleetError
        When the SKU is unknown or does not compute in the precision.
    """

    source: LatencySource = "simulated"

    def __init__(self, spec: SimulatedFleetSpec) -> None:
        self.spec = spec
        self.name = spec.name
        self.profile = load_profile(spec.sku)
        self.profile.check_precision(spec.precision)
        self.states: DeviceStates = draw_states(self.profile, spec.scenario, n_devices=spec.n_devices, seed=spec.seed)
        self.device_ids = tuple(f"{spec.sku}-{number:04d}" for number in range(spec.n_devices))

    def describe(self) -> dict[str, str | int | float]:
        """Kind, SKU, scenario, devices, seed and precision."""
        keys = ("kind", "sku", "scenario", "n_devices", "seed", "precision")
        return {key: getattr(self.spec, key) for key in keys}

    def true_latency_ms(self, workloads: Workloads, devices: Integers | None = None) -> Floats:
        """Noise-free latencies, shape (n_picked_devices, n_workloads): what only a simulation can know."""
        picked = np.arange(self.n_devices) if devices is None else np.asarray(devices, dtype=np.int64)
        latency = np.empty((len(picked), len(workloads)))
        for old_stack in (False, True):
            rows: NDArray[np.bool_] = self.states.old_stack[picked] == old_stack
            if not rows.any():
                continue
            times = kernel_times(
                workloads.kernels, workloads.widths, self.profile, self.spec.precision, old_stack=old_stack
            )
            chosen = picked[rows]
            latency[rows] = device_latency_ms(
                times,
                self.profile.launch_us / 1000,
                self.states.alpha[chosen],
                self.states.beta[chosen],
                self.states.gamma[chosen],
            )
        return latency

    def sample(self, workloads: Workloads, devices: Integers, *, runs: int, seed: int) -> Floats:
        """Noisy latencies in ms, shape (n_picked_devices, n_workloads, runs)."""
        true = self.true_latency_ms(workloads, devices)
        samples = np.empty((*true.shape, runs))
        for row, device in enumerate(devices):
            # One stream per device and session: asking for more devices does not change the others' answers.
            rng = np.random.default_rng([self.spec.seed, seed, int(device)])
            drift = np.exp(SESSION_DRIFT_LOG_SD * rng.standard_normal())
            shape = (len(workloads), runs)
            noise = np.exp(NOISE_LOG_SD * rng.standard_normal(shape))
            spikes = np.where(rng.random(shape) < SPIKE_PROBABILITY, rng.exponential(SPIKE_MEAN, shape), 0.0)
            samples[row] = true[row][:, None] * drift * noise * (1 + spikes)
        return samples
