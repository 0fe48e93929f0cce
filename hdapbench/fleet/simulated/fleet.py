"""SimulatedFleet: devices of a board profile in a scenario, with measurement noise; reproducible and marked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.kernels import KernelModel
from hdapbench.cost.tiling import GPU_TILES
from hdapbench.fleet.base import Fleet, LatencySource, Workloads
from hdapbench.fleet.ids import NumberedIds
from hdapbench.fleet.simulated.engine import KernelTimes, device_latency_ms, kernel_times
from hdapbench.fleet.simulated.exact import SortedDevices
from hdapbench.fleet.simulated.profile import load_profile
from hdapbench.fleet.simulated.scenario import DeviceStates, draw_states, resolve_scenario
from hdapbench.fleet.statistics import spread
from hdapbench.spec import NoiseSpec, SimulatedFleetSpec

_BLOCK = 256  # devices that share a stream of noise: few enough to ask one alone, many enough to ask a million


class SimulatedFleet(Fleet):
    """Devices computed from the reference model of docs/fleets.md.

    Measurements carry log-normal noise, sometimes a spike, and each device drifts from session to session, as the
    spec's ``noise`` says.

    Parameters
    ----------
    spec
        SKU, scenario, number of devices, seed, precision and noise.

    Raises
    ------
    FleetError
        When the SKU or a power mode is unknown, or the SKU does not compute in the precision.
    """

    source: LatencySource = "simulated"

    def __init__(self, spec: SimulatedFleetSpec) -> None:
        self.spec = spec
        self.name = spec.name
        self.profile = load_profile(spec.sku)
        self.profile.check_precision(spec.precision)
        self.tiling = replace(GPU_TILES, n_multiprocessors=self.profile.n_multiprocessors)
        self.states: DeviceStates = draw_states(
            self.profile,
            resolve_scenario(spec.scenario),
            n_devices=spec.n_devices,
            seed=spec.seed,
            uptime_seconds=spec.uptime_seconds,
        )
        self.device_ids = NumberedIds(self.profile.name, spec.n_devices)

    def describe(self) -> dict[str, str | int | float]:
        """Kind, SKU, scenario, devices, seed and precision, and what differs from the defaults."""
        spec = self.spec
        named = spec.scenario.model_dump(exclude_none=True)
        scenario = named.pop("base") + (f" with its own {', '.join(named)}" if named else "")
        facts: dict[str, str | int | float] = {"kind": spec.kind, "sku": spec.sku, "scenario": scenario}
        facts |= {"n_devices": spec.n_devices, "seed": spec.seed, "precision": spec.precision}
        if self.profile.calibration is not None:
            facts["calibration"] = self.profile.calibration.text
        if spec.uptime_seconds is not None:
            facts["uptime_seconds"] = spec.uptime_seconds
        if spec.noise != NoiseSpec():
            facts["noise"] = ", ".join(f"{key} {value:g}" for key, value in spec.noise.model_dump().items())
        return facts

    def describe_devices(self) -> dict[str, Any]:
        """Power modes, stacks, the share that heat throttles, and the spread of the multipliers."""
        states = self.states
        modes = np.bincount(states.mode_index, minlength=len(states.mode_names))
        stacks = np.bincount(states.stack_index, minlength=len(states.stacks))
        return {
            "modes": {name: int(count) for name, count in zip(states.mode_names, modes, strict=True)},
            "stacks": [
                asdict(stack) | {"n_devices": int(count)} for stack, count in zip(states.stacks, stacks, strict=True)
            ],
            "throttled_share": float((states.clock_mhz < states.cold_clock_mhz).mean()),
            "multipliers": {
                name: spread(values)
                for name, values in (("launch", states.alpha), ("compute", states.beta), ("memory", states.gamma))
            },
        }

    def bound_shares(self, kernels: KernelModel, widths: Integers) -> Floats:
        """Share of latency on the nominal board bound by launches, compute and memory, shape (n_plans, 3)."""
        times = kernel_times(kernels, widths, self.profile, self.spec.precision)
        by_compute = times.compute_ms >= times.memory_ms
        launch = times.n_run * self._launch_ms
        parts = [launch, (times.compute_ms * by_compute).sum(axis=1), (times.memory_ms * ~by_compute).sum(axis=1)]
        shares = np.stack(parts, axis=1)
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def true_latency_ms(self, workloads: Workloads, devices: Integers | None = None) -> Floats:
        """Noise-free latencies, shape (n_picked_devices, n_workloads): what only a simulation can know."""
        every = slice(None) if devices is None else np.asarray(devices, dtype=np.int64)
        states = self.states
        alpha, beta, gamma = (values[every] for values in (states.alpha, states.beta, states.gamma))
        latency = np.empty((len(alpha), len(workloads)))
        for rows, times in self._by_stack(workloads, states.stack_index[every]):
            latency[rows] = device_latency_ms(times, self._launch_ms, alpha[rows], beta[rows], gamma[rows])
        return latency

    def mean_latency_ms(self, workloads: Workloads) -> Floats:
        """Exact noise-free mean over all devices, shape (n_workloads,), without touching each of them."""
        total = np.zeros(len(workloads))
        for number, devices in self._sorted.items():
            total += devices.mean_ms(self._kernel_times(workloads, number), self._launch_ms)
        return total

    def kernel_mean_ms(self, compute_and_memory: dict[int, tuple[Floats, Floats]]) -> Floats:
        """Exact fleet mean of single kernels without their launch, elementwise.

        Parameters
        ----------
        compute_and_memory
            Nominal compute and memory time in ms per software stack (see ``states.stacks``), arrays of one shape.
        """
        parts = [self._sorted[number].kernel_mean_ms(*times) for number, times in compute_and_memory.items()]
        return np.asarray(sum(parts))

    def sample(self, workloads: Workloads, devices: Integers, *, runs: int, seed: int) -> Floats:
        """Noisy latencies in ms, shape (n_picked_devices, n_workloads, runs)."""
        true = self.true_latency_ms(workloads, devices)
        samples = np.empty((*true.shape, runs))
        plans = [_plan_seed(row) for row in workloads.widths]
        block_of = devices // _BLOCK
        order = np.argsort(block_of, kind="stable")
        blocks, starts = np.unique(block_of[order], return_index=True)
        for block, rows in zip(blocks, np.split(order, starts[1:]), strict=True):
            # Always the whole block: who else is asked, and how large the fleet is, does not change an answer.
            noise = self._noise([self.spec.seed, seed, int(block)], plans, n_devices=_BLOCK, runs=runs)
            samples[rows] = true[rows][:, :, None] * noise[devices[rows] % _BLOCK]
        return samples

    def sample_nominal(self, workloads: Workloads, *, runs: int, seed: int) -> Floats:
        """Noisy latencies of the nominal board on the current software stack, shape (n_workloads, runs)."""
        one = np.ones(1)
        true = device_latency_ms(self._kernel_times(workloads, 0), self._launch_ms, one, one, one)[0]
        plans = [_plan_seed(row) for row in workloads.widths]
        noise = self._noise([self.spec.seed, seed, 0x6E6F6D], plans, n_devices=1, runs=runs)
        return np.asarray(true[:, None] * noise[0])

    def _noise(self, session: list[int], plans: list[int], *, n_devices: int, runs: int) -> Floats:
        """Factors of a session on devices, plans and repeats: drift of each device; noise and spikes of each plan.

        A plan has the same noise whatever is measured beside it, and two plans have not the same: on real devices too,
        only the drift is common to what is measured in one session.
        """
        spec = self.spec.noise
        drift = np.random.default_rng(session).standard_normal((n_devices, 1))
        factor = np.empty((n_devices, len(plans), runs))
        for number, plan in enumerate(plans):
            rng = np.random.default_rng([*session, plan])
            own = np.exp(spec.log_sd * rng.standard_normal((n_devices, runs)))
            spikes = rng.random(own.shape) < spec.spike_probability
            own[spikes] *= 1 + spec.spike_mean * rng.standard_exponential(int(spikes.sum()))
            factor[:, number] = own * np.exp(spec.session_drift_log_sd * drift)
        return factor

    @property
    def _launch_ms(self) -> float:
        return self.profile.launch_us / 1000

    def _kernel_times(self, workloads: Workloads, stack: int) -> KernelTimes:
        return kernel_times(
            workloads.kernels,
            workloads.widths,
            self.profile,
            self.spec.precision,
            stack=self.states.stacks[stack],
        )

    def _by_stack(
        self, workloads: Workloads, stack_index: NDArray[np.int8]
    ) -> Iterator[tuple[NDArray[np.int64] | slice, KernelTimes]]:
        """Rows of the devices that run each stack, and the kernels' times there."""
        present = np.flatnonzero(np.bincount(stack_index, minlength=1))
        for number in present:
            rows = slice(None) if len(present) == 1 else np.flatnonzero(stack_index == number)
            yield rows, self._kernel_times(workloads, int(number))

    @cached_property
    def _sorted(self) -> dict[int, SortedDevices]:
        """Number of each software stack -> the devices that run it."""
        states, share = self.states, np.full(self.n_devices, 1 / self.n_devices)
        found = {}
        for number in np.flatnonzero(np.bincount(states.stack_index, minlength=1)):
            rows = states.stack_index == number
            every = (states.alpha, states.beta, states.gamma, share)
            found[int(number)] = SortedDevices.of(*(values[rows] for values in every))
        return found


def _plan_seed(widths: Integers) -> int:
    """Number that stands for a plan's widths."""
    return int.from_bytes(hashlib.blake2b(widths.astype(np.int64).tobytes(), digest_size=8).digest(), "little")
