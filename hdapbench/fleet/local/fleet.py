"""LocalFleet: devices on this host that differ for real, timed one at a time in rounds of random order."""

from __future__ import annotations

import contextlib
import shutil
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from hdapbench.arrays import Floats
from hdapbench.cost.tiling import BLOCKS_OF_8, BLOCKS_OF_16
from hdapbench.errors import RuntimeLostError
from hdapbench.fleet.base import DeviceLostError, Workloads
from hdapbench.fleet.exports import REFERENCE
from hdapbench.fleet.local.cpu_share import means_of_limiting
from hdapbench.fleet.local.device import LocalDevice, StartWorker, check_devices, devices_of
from hdapbench.fleet.visits import VisitedFleet, refuse_windows
from hdapbench.runtimes.base import find_runtime
from hdapbench.runtimes.host import package_versions, read_host, usable_cpus
from hdapbench.runtimes.load import ForeignLoad
from hdapbench.runtimes.worker import Worker
from hdapbench.spec import ConditionsSpec, LocalFleetSpec

REFERENCE_RUNS = 3
"""Before and after the models of a visit."""
FIRST_REFERENCE_RUNS = 21
"""When a device is first used: all of its latencies are relative to these."""
PATIENCE = 3
"""Visits whose repeats were all under foreign load, one after another, until this session repeats none any more."""


class LocalFleet(VisitedFleet):
    """Devices of a local fleet's spec: processes on this host under different conditions, one active at a time.

    Parameters
    ----------
    spec
        The devices and how they are measured.
    cache_dir
        Where exported models are kept; None: in a folder that goes with this process.
    on_progress
        Told what is being done, often.
    start
        Starts worker processes.

    Raises
    ------
    FleetError
        With every device that this host cannot be.
    """

    def __init__(
        self,
        spec: LocalFleetSpec,
        *,
        cache_dir: Path | None = None,
        on_progress: Callable[[str], None] | None = None,
        start: StartWorker = Worker,
    ) -> None:
        refuse_windows(spec.kind)
        devices = devices_of(spec)
        check_devices(devices, set(usable_cpus()))
        super().__init__(spec, {device.name: device.runtime for device in devices}, cache_dir, on_progress)
        self.spec = spec
        self._devices = tuple(LocalDevice(device, start=start) for device in devices)
        self.tiling = BLOCKS_OF_16 if _has_wide_registers() else BLOCKS_OF_8
        self._reference_ms: dict[int, float] = {}  # device -> what its reference took at first
        self._foreign: list[float] = []  # of every visit whose load the system told
        self._impatience = 0
        self._finalizer = weakref.finalize(self, _close, self._devices, self._scratch)

    def describe(self) -> dict[str, str | int | float]:
        """Devices, runtimes and conditions, host and versions, and what is known of foreign load."""
        host, specs = read_host(), [device.spec for device in self._devices]
        runtimes = Counter(spec.runtime.text for spec in specs)
        facts: dict[str, str | int | float] = {
            "kind": "local",
            "n_devices": self.n_devices,
            "runtimes": "; ".join(f"{count}x {text}" for text, count in runtimes.items()),
            "host": f"{host.processor}, {host.n_cpus} CPUs",
        }
        facts |= package_versions(sorted({find_runtime(spec.runtime.runtime).package for spec in specs}))
        slowed = [spec.cpu_share for spec in specs if spec.cpu_share < 1]
        if slowed:
            facts["cpu_share"] = f"{min(slowed):g} to 1, by {means_of_limiting()}"
        for name in ("nice", "memory_hogs", "cache_hogs"):
            if n := sum(bool(getattr(spec, name)) for spec in specs):
                facts[name] = f"on {n} devices"
        facts["drift"] = "divided out by a reference network" if self.spec.drift == "divide" else "kept"
        if self._reference_ms and not self._foreign:
            facts["foreign_load"] = "not told by this system"
        elif self._foreign:
            n_loaded = sum(cores > self.spec.foreign_load for cores in self._foreign)
            facts["foreign_load"] = (
                f"{np.mean(self._foreign):.1f} cores on average, above {self.spec.foreign_load:g} in {n_loaded} of "
                f"{len(self._foreign)} visits"
            )
        return facts

    def sample_nominal(self, workloads: Workloads, *, runs: int, seed: int) -> Floats | None:
        """Measured latencies in ms of the first device without any special condition, shape (n_workloads, runs).

        What a developer has on the desk: onnxruntime's defaults on one thread. None where the fleet has no such device.
        """
        nominal = ConditionsSpec()
        fields = type(nominal).model_fields
        for number, device in enumerate(self._devices):
            spec = device.spec
            if spec.cpu_share == 1 and all(getattr(spec, name) == getattr(nominal, name) for name in fields):
                return np.asarray(self.sample(workloads, np.array([number]), runs=runs, seed=seed)[0])
        return None

    def close(self) -> None:
        """End all processes; the next measurement starts them anew."""
        _close(self._devices, self._scratch)

    def _visit(self, device: int, files: dict[int, Path], runs: int) -> dict[int, Floats]:
        """Times of each model on a device in ms, shape (runs,) each; repeated while others load the host."""
        best: tuple[float | None, dict[int, Floats]] | None = None
        for attempt in range(1 + (self.spec.retries if self._impatience < PATIENCE else 0)):
            if attempt:
                self._say(f"{self.device_ids[device]}: other processes load the host, timing again")
            foreign, times = self._attempt(device, files, runs)
            if best is None or foreign is None or (best[0] is not None and foreign < best[0]):
                best = (foreign, times)
            if foreign is None or foreign <= self.spec.foreign_load:
                break
        assert best is not None  # noqa: S101 - there is at least one attempt
        if best[0] is not None:
            self._impatience = 0 if best[0] <= self.spec.foreign_load else self._impatience + 1
            self._foreign.append(best[0])
        return best[1]

    def _attempt(self, device: int, files: dict[int, Path], runs: int) -> tuple[float | None, dict[int, Floats]]:
        """Cores that others used, None where unknown, and times of each model in ms with drift divided out."""
        active = self._devices[device]
        with self._answering(device):
            reference = self._exports.reference(active.spec.runtime)
            active.load({REFERENCE: reference} | {str(number): path for number, path in files.items()})
            with active.active():
                if device not in self._reference_ms:
                    self._reference_ms[device] = float(np.median(active.time(REFERENCE, FIRST_REFERENCE_RUNS)))
                load = ForeignLoad(active.pids)
                before = active.time(REFERENCE, REFERENCE_RUNS)
                times = {number: active.time(str(number), runs) for number in files}
                after = active.time(REFERENCE, REFERENCE_RUNS)
                foreign = load.cores()
        now = float(np.median([*before, *after]))
        factor = self._reference_ms[device] / now if self.spec.drift == "divide" else 1.0
        return foreign, {number: values * factor for number, values in times.items()}

    @contextmanager
    def _answering(self, device: int) -> Iterator[None]:
        """Tell of a device that died, and leave no process behind that waits for half a question."""
        try:
            yield
        except RuntimeLostError as error:
            self._devices[device].close()
            raise DeviceLostError(device, f"fleet '{self.name}': {error}") from error
        except BaseException:
            self._devices[device].close()
            raise


def _close(devices: tuple[LocalDevice, ...], scratch: Path | None) -> None:
    for device in devices:
        device.close()
    if scratch is not None:
        shutil.rmtree(scratch, ignore_errors=True)


def _has_wide_registers() -> bool:
    """Whether this processor has AVX-512, as far as the kernel tells."""
    with contextlib.suppress(OSError):
        return " avx512f " in Path("/proc/cpuinfo").read_text()
    return False
