"""Fleet: many devices with one way to ask for latencies, whatever lies behind them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.kernels import KernelModel
from hdapbench.cost.tiling import GPU_TILES, Tiling
from hdapbench.errors import FleetError

if TYPE_CHECKING:
    from torch import nn

    from hdapbench.fleet.fingerprint import Fingerprint
    from hdapbench.fleet.noise import Noise


LatencySource = Literal["simulated", "measured"]
"""How latencies came about. The two never share a column unmarked."""


@dataclass(frozen=True)
class Variants:
    """How models of given widths come about, for fleets that run them.

    Attributes
    ----------
    build
        Widths of one plan, shape (n_groups,) -> compact model.
    input_shape
        Channels, height and width of one input.
    model_id
        What they are variants of: equal ids and widths give models of equal latency.
    """

    build: Callable[[Integers], nn.Module]
    input_shape: tuple[int, int, int]
    model_id: str


@dataclass(frozen=True)
class Workloads:
    """Compressed models to time: enough for every kind of fleet.

    Attributes
    ----------
    kernels
        Fused kernels over widths: what a simulated fleet computes from.
    widths
        Kept channels per group, shape (n_workloads, n_groups).
    ids
        Names of the workloads: what a recorded fleet looks up.
    variants
        How they are built: what a local or remote fleet runs. None where nothing needs to run.
    """

    kernels: KernelModel
    widths: Integers
    ids: tuple[str, ...]
    variants: Variants | None = None

    @classmethod
    def named(cls, ids: Sequence[str]) -> Workloads:
        """Workloads of which nothing but the names is known: enough for a fleet that lists its ``plans``."""
        no_groups = KernelModel((), np.zeros(0, dtype=np.int64), ())
        return cls(no_groups, np.zeros((len(ids), 0), dtype=np.int64), tuple(ids))

    def __len__(self) -> int:
        return len(self.widths)


class DeviceLostError(FleetError):
    """A device does not answer any more; its position is in ``device``."""

    def __init__(self, device: int, message: str) -> None:
        self.device = device
        super().__init__(message)


class SparesGoneError(FleetError):
    """A device is lost whose cluster has no other: the fleet has to be clustered without it."""


class Fleet(ABC):
    """Devices of one SKU. Kinds differ in where latencies come from, not in how they are asked for.

    Attributes
    ----------
    name
        How boards call the fleet.
    source
        ``simulated`` or ``measured``.
    device_ids
        Names of the devices; their positions are what other calls take.
    weights
        Share of the fleet that each device stands for, shape (n_devices,), summing to one; None: all alike.
    tiling
        What the devices' runtimes pad channels to, as far as the fleet knows: which features surrogates look at.
    """

    name: str
    source: LatencySource
    device_ids: Sequence[str]
    weights: Floats | None = None
    tiling: Tiling = GPU_TILES

    @property
    def n_devices(self) -> int:
        """Number of devices."""
        return len(self.device_ids)

    @abstractmethod
    def describe(self) -> dict[str, str | int | float]:
        """Facts that a reader of a board must know about the fleet: kind, SKU, conditions, seed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 - most fleets hold nothing
        """Give back what the fleet holds, such as processes; it may be asked again, and closed again."""

    @property
    def plans(self) -> tuple[str, ...] | None:
        """Names of the workloads that can be timed, where others cannot; None: any model can."""
        return None

    def describe_devices(self) -> dict[str, Any]:
        """What is known of how the devices differ, as plain values; empty where that shows only when they are timed."""
        return {}

    def bound_shares(self, kernels: KernelModel, widths: Integers) -> Floats | None:  # noqa: ARG002
        """Share of latency that each kind of bound takes, shape (n_plans, n_bounds); None where it is not known."""
        return None

    def true_latency_ms(self, workloads: Workloads, devices: Integers | None = None) -> Floats | None:  # noqa: ARG002
        """Noise-free latencies in ms, shape (n_picked_devices, n_workloads); None where they can only be measured."""
        return None

    def mean_latency_ms(self, workloads: Workloads) -> Floats | None:  # noqa: ARG002
        """Mean over all devices in ms, shape (n_workloads,), where it is known without asking them; else None."""
        return None

    def recorded_fingerprint(self) -> Fingerprint | None:
        """Fingerprint that the fleet brings along; None when its probes have to be measured."""
        return None

    def noise(self, workloads: Workloads, devices: Integers, *, runs: int) -> Noise | None:  # noqa: ARG002
        """Noise of the medians of `sample`; None where repeats do not tell all of it: devices drift between calls."""
        return None

    @property
    def typical_noise(self) -> float | None:
        """Relative variance of a median of `sample`, typical of the fleet; None where `noise` is."""
        return None

    def sample_nominal(self, workloads: Workloads, *, runs: int, seed: int) -> Floats | None:  # noqa: ARG002
        """Latencies in ms of a new board in its nominal mode, shape (n_workloads, runs); None when there is none."""
        return None

    @abstractmethod
    def sample(self, workloads: Workloads, devices: Integers, *, runs: int, seed: int) -> Floats:
        """Latencies in ms, shape (n_picked_devices, n_workloads, runs), all finite and positive.

        Parameters
        ----------
        devices
            Positions of the devices to ask, shape (n_picked_devices,).
        runs
            Repeats per device and workload.
        seed
            Names the session: measurements of one session share the devices' state; simulated fleets repeat exactly.

        Raises
        ------
        DeviceLostError
            When one of the devices does not answer any more; a spare then takes its place.
        """

    def measure(self, workloads: Workloads, devices: Integers, *, runs: int, seed: int) -> Floats:
        """`sample`, checked: what callers use. Shape (n_picked_devices, n_workloads, runs), in ms.

        Raises
        ------
        FleetError
            When a device does not exist, an answer is missing, not finite or not positive, or ``runs`` or ``seed``
            cannot be.
        """
        if runs < 1 or seed < 0:
            raise FleetError(f"measurements need at least 1 run and a session of at least 0, not {runs} and {seed}")
        devices = np.asarray(devices, dtype=np.int64)
        if devices.size and (devices.min() < 0 or devices.max() >= self.n_devices):
            wrong_ones = devices[(devices < 0) | (devices >= self.n_devices)][:5].tolist()
            raise FleetError(f"fleet '{self.name}' has devices 0..{self.n_devices - 1}; asked for {wrong_ones}")
        if not len(devices):
            return np.empty((0, len(workloads), runs))
        samples = self.sample(workloads, devices, runs=runs, seed=seed)
        if samples.shape != (len(devices), len(workloads), runs):
            raise FleetError(f"fleet '{self.name}' answered with shape {samples.shape}")
        wrong = ~(np.isfinite(samples) & (samples > 0))
        if wrong.any():
            device, workload, _ = np.argwhere(wrong)[0]
            raise FleetError(
                f"fleet '{self.name}': device {self.device_ids[devices[device]]} gave {samples[wrong][0]} ms for "
                f"workload {workloads.ids[workload]}; latencies are finite and positive"
            )
        return samples
