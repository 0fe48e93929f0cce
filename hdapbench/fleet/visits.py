"""Fleets whose devices run models: visited in rounds of random order, whatever a visit is."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.errors import FleetError
from hdapbench.fleet.base import Fleet, LatencySource, Workloads
from hdapbench.fleet.exports import ExportedModels, scratch_folder
from hdapbench.runtimes.base import find_runtime
from hdapbench.spec import RuntimeSpec

MODELS_PER_VISIT = 8
"""On boards, besides the reference network: they have little memory, and lose a visit when they are interrupted."""
MOST_LOADED_BYTES = 2 << 30
"""Model files held by all asked devices together; more workloads are timed one lot after another."""


def on_windows() -> bool:
    """Whether this is Windows."""
    return os.name == "nt"


def refuse_windows(kind: str) -> None:
    """Raise `FleetError` on Windows, where nobody can wait with a time limit for what a process says."""
    if on_windows():
        raise FleetError(f"fleets of kind '{kind}' run on Linux and macOS; on Windows use fleet ask and fleet tell")


class Visiting(Protocol):
    """What the spec of such a fleet has."""

    @property
    def name(self) -> str:
        """Name of the fleet."""

    @property
    def seed(self) -> int:
        """Seed of the order of measuring."""

    @property
    def rounds(self) -> int:
        """Rounds that repeats are spread over."""


class VisitedFleet(Fleet):
    """Devices that run models.

    A measurement exports each model once and times them in rounds: devices one after the other in random order, the
    models of a lot in random order on each.

    Attributes
    ----------
    most_per_visit
        Models of a lot at most; None: as many as memory holds.

    Parameters
    ----------
    spec
        Name, seed and rounds.
    runtimes
        Name of each device -> what its models are exported for.
    cache_dir
        Where exported models are kept; None: in a folder that goes with this process.
    on_progress
        Told what is being done, often.
    """

    source: LatencySource = "measured"
    most_per_visit: int | None = None

    def __init__(
        self,
        spec: Visiting,
        runtimes: Mapping[str, RuntimeSpec],
        cache_dir: Path | None,
        on_progress: Callable[[str], None] | None,
    ) -> None:
        self.name = spec.name
        self.device_ids = tuple(runtimes)
        self._order, self._runtimes = spec, tuple(runtimes.values())
        self._scratch = scratch_folder() if cache_dir is None else None
        self._exports = ExportedModels(cache_dir or self._scratch or Path())
        self._say = on_progress or (lambda _: None)

    @abstractmethod
    def _visit(self, device: int, files: dict[int, Path], runs: int) -> dict[int, Floats]:
        """Times of each model on a device in ms, shape (runs,) each, timed in the order of ``files``."""

    def sample(self, workloads: Workloads, devices: Integers, *, runs: int, seed: int) -> Floats:
        """Measured latencies in ms, shape (n_picked_devices, n_workloads, runs).

        Raises
        ------
        FleetError
            When the workloads do not say how they are built.
        DeviceLostError
            When a device died or cannot be used.
        """
        rng = np.random.default_rng([self._order.seed, seed])
        picked = [int(device) for device in devices]
        files = self._export(workloads, picked)
        parts = np.diff(np.linspace(0, runs, min(self._order.rounds, runs) + 1).astype(int))
        samples = np.empty((len(picked), len(workloads), runs))
        n_done, n_all = 0, len(picked) * len(workloads) * len(parts)
        for lot in self._lots(files):
            done = 0
            for n_runs in parts.tolist():
                for place in rng.permutation(len(picked)).tolist():
                    order = [lot[position] for position in rng.permutation(len(lot))]
                    times = self._visit(picked[place], {number: files[place][number] for number in order}, n_runs)
                    for number, values in times.items():
                        samples[place, number, done : done + n_runs] = values
                    n_done += len(lot)
                    self._say(f"{n_done / n_all:.0%} of {len(workloads)} models on {len(picked)} devices")
                done += n_runs
        self._exports.trim({path for row in files for path in row})
        return samples

    def _export(self, workloads: Workloads, picked: Sequence[int]) -> list[list[Path]]:
        """Model file of each picked device and workload."""
        files = []
        known: dict[tuple[str, int, str], list[Path]] = {}
        for runtime in [self._runtimes[device] for device in picked]:
            form = (find_runtime(runtime.runtime).suffix, runtime.batch, runtime.precision)
            if form not in known:
                known[form] = []
                for position in range(len(workloads)):
                    self._say(f"exporting model {position + 1} of {len(workloads)}")
                    known[form].append(self._exports.file(workloads, position, runtime))
            files.append(known[form])
        return files

    def _lots(self, files: list[list[Path]]) -> list[list[int]]:
        """Workloads that are loaded together, such that all devices hold no more than is allowed."""
        lots: list[list[int]] = [[]]
        held = 0
        for number in range(len(files[0])):
            size = sum(row[number].stat().st_size for row in files)
            if lots[-1] and (held + size > MOST_LOADED_BYTES or len(lots[-1]) == self.most_per_visit):
                lots.append([])
                held = 0
            lots[-1].append(number)
            held += size
        return lots
