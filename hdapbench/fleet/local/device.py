"""A device on this host: a worker process under its conditions, and the load that runs beside it while it is timed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from hdapbench.arrays import Floats
from hdapbench.errors import FleetError
from hdapbench.fleet.local.cpu_share import CpuLimit, limit_cpu
from hdapbench.fleet.local.hog import Hog
from hdapbench.runtimes.worker import Worker
from hdapbench.spec import LocalDeviceSpec, LocalFleetSpec, RuntimeSpec

NEEDED = {
    "cpus": (os, "sched_setaffinity"),  # not on macOS and Windows
    "nice": (os, "setpriority"),  # not on Windows
    "cpu_share": (signal, "SIGSTOP"),
    "memory_hogs": (signal, "SIGSTOP"),
    "cache_hogs": (signal, "SIGSTOP"),
}
"""Condition of a device -> what of Python's a system must have for it."""
_PLAIN = {name: LocalDeviceSpec.model_fields[name].default for name in NEEDED}


class DeviceWorker(Protocol):
    """What a device needs of a worker process; see `hdapbench.runtimes.worker.Worker`."""

    @property
    def pid(self) -> int:
        """Its process."""

    def load(self, key: str, path: Path) -> None:
        """Load a model file under a name."""

    def unload(self, key: str) -> None:
        """Forget a model."""

    def time(self, key: str, runs: int) -> Floats:
        """Wall time of each run in ms, shape (runs,)."""

    def close(self) -> None:
        """End the process; again is harmless."""


class StartWorker(Protocol):
    """How workers are started: `Worker`, or a stand-in."""

    def __call__(self, runtime: RuntimeSpec, *, cpus: tuple[int, ...] | None, name: str) -> DeviceWorker:
        """A running worker."""


class LocalDevice:
    """A worker process under a device's conditions; started when it is first needed, and again after `close`.

    Parameters
    ----------
    spec
        Runtime and conditions.
    start
        Starts the worker.
    """

    def __init__(self, spec: LocalDeviceSpec, *, start: StartWorker = Worker) -> None:
        self.spec, self._start = spec, start
        self._worker: DeviceWorker | None = None
        self._limit: CpuLimit | None = None
        self._hogs: list[Hog] = []
        self._loaded: dict[str, Path] = {}

    @property
    def pids(self) -> tuple[int, ...]:
        """Its processes, hogs included."""
        own = () if self._worker is None else (self._worker.pid,)
        return (*own, *(hog.pid for hog in self._hogs))

    def load(self, files: dict[str, Path]) -> None:
        """Hold these models and no others."""
        worker = self._running()
        for key in [key for key in self._loaded if files.get(key) != self._loaded[key]]:
            worker.unload(key)
            del self._loaded[key]
        for key, path in files.items():
            if key not in self._loaded:
                worker.load(key, path)
                self._loaded[key] = path
                worker.time(key, 2)  # the first runs allocate

    def time(self, key: str, runs: int) -> Floats:
        """Wall time of each run of a loaded model in ms, shape (runs,), after one that is not counted."""
        return self._running().time(key, runs + 1)[1:]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Run the hogs for as long as this device is the one that is timed.

        Raises
        ------
        RuntimeLostError
            When one of them has died, also during the block: what was timed is not this device.
        """
        if not self._hogs:
            self._hogs = [Hog("memory", name=self.spec.name) for _ in range(self.spec.memory_hogs)]
            self._hogs += [Hog("cache", name=self.spec.name) for _ in range(self.spec.cache_hogs)]
        try:
            for hog in self._hogs:
                hog.resume()
            yield
            for hog in self._hogs:
                hog.check()
        finally:
            for hog in self._hogs:
                hog.pause()

    def close(self) -> None:
        """End all processes; again is harmless."""
        for hog in self._hogs:
            hog.close()
        self._hogs = []
        if self._worker is not None:
            self._worker.close()
        self._worker = None
        if self._limit is not None:
            self._limit.release()
        self._limit = None
        self._loaded = {}

    def _running(self) -> DeviceWorker:
        if self._worker is None:
            spec = self.spec
            self._worker = self._start(spec.runtime, cpus=spec.cpus, name=spec.name)
            # Before models are loaded: threads inherit the priority of the one that starts them.
            if spec.nice and hasattr(os, "setpriority"):
                os.setpriority(os.PRIO_PROCESS, self._worker.pid, spec.nice)
            self._limit = limit_cpu(self._worker.pid, share=spec.cpu_share, threads=spec.runtime.threads)
        return self._worker


def devices_of(spec: LocalFleetSpec) -> tuple[LocalDeviceSpec, ...]:
    """The devices of a fleet: those listed, or those that its mix and seed give.

    Numbers of devices per kind are the shares' as nearly as whole numbers can be; a device's CPU share depends on the
    seed, its kind and its number in the kind alone.
    """
    if spec.devices is not None:
        return spec.devices
    mix, n_devices = spec.mix or (), spec.n_devices or 0
    exact = np.array([kind.share for kind in mix]) * n_devices
    counts = np.floor(exact + 1e-9).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: n_devices - int(counts.sum())]] += 1
    devices = []
    for place, (kind, count) in enumerate(zip(mix, counts, strict=True)):
        common = {name: getattr(kind, name) for name in ("runtime", "cpus", "nice", "memory_hogs", "cache_hogs")}
        for number in range(int(count)):
            share = float(np.random.default_rng([spec.seed, place, number]).uniform(*kind.cpu_share))
            devices.append(LocalDeviceSpec(name=f"{kind.name}-{number}", cpu_share=round(share, 3), **common))
    return tuple(devices)


def check_devices(devices: tuple[LocalDeviceSpec, ...], available: set[int]) -> None:
    """Raise `FleetError` with every device that this host cannot be, one per line.

    Parameters
    ----------
    available
        CPUs that this process may use.
    """
    problems = []
    n_cpus = len(available)
    for device in devices:
        threads, hogs = device.runtime.threads, device.memory_hogs + device.cache_hogs
        if threads >= n_cpus > 1:
            problems.append(
                f"device '{device.name}': {threads} threads on {n_cpus} CPUs; leave at least one free: with threads on "
                f"all of them, one other busy process makes every run wait for it, up to ten times as long"
            )
        if hogs >= max(n_cpus, 2):
            problems.append(f"device '{device.name}': {hogs} hogs on {n_cpus} CPUs; at most {max(n_cpus, 2) - 1}")
        for key, (module, name) in NEEDED.items():
            if getattr(device, key) != _PLAIN[key] and not hasattr(module, name):
                problems.append(f"device '{device.name}': this system has no means for '{key}'; leave it out")
        if missing := sorted(set(device.cpus or ()) - available):
            problems.append(f"device '{device.name}': there are no CPUs {missing}; known: {sorted(available)}")
    if problems:
        raise FleetError("\n".join(problems))
