"""Fingerprints: what a few probe models take on every device, with date and conditions, on disk as Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdapbench.errors import FleetError
from hdapbench.fleet.base import Fleet, NumberedIds, Workloads
from hdapbench.fleet.clustering import checked_fingerprint
from hdapbench.latency.engine import kernel_times
from hdapbench.latency.kernels import KernelModel
from hdapbench.latency.profile import SkuProfile

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

N_PROBES = 3
_DEVICES_AT_A_TIME = 1 << 16
_FORMAT = 1
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Fingerprint:
    """Median latencies of probe models on every device, and how they were taken.

    Attributes
    ----------
    latency_ms
        Median over the repeats, shape (n_devices, n_probes).
    probes
        Names of the probes.
    device_ids
        Names of the devices.
    runs
        Repeats per device and probe.
    taken_at
        Date and time in UTC, ISO 8601; empty where it is not known.
    conditions
        What a reader must know: the fleet's description, the model, sessions.
    weights
        Share of the fleet of each device, shape (n_devices,); None: all alike.
    """

    latency_ms: Floats
    probes: tuple[str, ...]
    device_ids: Sequence[str]
    runs: int
    taken_at: str = ""
    conditions: dict[str, Any] = field(default_factory=dict)
    weights: Floats | None = None

    @property
    def n_devices(self) -> int:
        """Number of devices."""
        return len(self.latency_ms)

    @property
    def n_queries(self) -> int:
        """Device queries that it took: one per device and probe."""
        return int(self.latency_ms.size)


def choose_probes(
    kernels: KernelModel, profile: SkuProfile | None = None, *, precision: str = "fp32", n_probes: int = N_PROBES
) -> Integers:
    """Widths of probe models that differ in what bounds them, shape (n_probes, n_groups).

    Without a profile: the dense model, bound by compute; a thin one, by launches and memory; one that is narrow where
    maps are large and wide where they are small; then their mirror image and a half-wide one.

    With one, probes are chosen from a candidate set: the dense model first, then the ones that add most to what the
    probes tell apart. What bounds a model is the share of its latency on the nominal board that goes to launches,
    compute and memory, which is the gradient of its log latency in the devices' multipliers; the choice maximises the
    determinant of the gradients' Gram matrix (a greedy D-optimal design).

    Raises
    ------
    FleetError
        When more probes are wanted than there are candidates.
    """
    candidates = _candidates(kernels)
    if n_probes > len(candidates):
        raise FleetError(f"there are {len(candidates)} candidates for probes; {n_probes} were asked for")
    if profile is None:
        return candidates[:n_probes]
    bounds = bound_shares(kernels, candidates, profile, precision)  # (n_candidates, 3)
    chosen = [0]
    while len(chosen) < n_probes:
        left = [number for number in range(len(candidates)) if number not in chosen]
        gains = []
        for number in left:
            rows = bounds[[*chosen, number]]
            gains.append(np.linalg.slogdet(rows @ rows.T + _ROUNDING * np.eye(len(rows)))[1])
        chosen.append(left[int(np.argmax(gains))])
    return np.asarray(candidates[chosen], dtype=np.int64)


def bound_shares(kernels: KernelModel, widths: Integers, profile: SkuProfile, precision: str) -> Floats:
    """Share of latency on the nominal board bound by launches, compute and memory, shape (n_plans, 3)."""
    times = kernel_times(kernels, widths, profile, precision)
    by_compute = times.compute_ms >= times.memory_ms
    launch = np.full(len(widths), len(kernels) * profile.launch_us / 1000)
    parts = [launch, (times.compute_ms * by_compute).sum(axis=1), (times.memory_ms * ~by_compute).sum(axis=1)]
    shares = np.stack(parts, axis=1)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def take_fingerprint(
    fleet: Fleet,
    kernels: KernelModel,
    *,
    runs: int,
    seed: int,
    widths: Integers | None = None,
    model: str = "",
    on_progress: Callable[[int, int], None] | None = None,
) -> Fingerprint:
    """Fingerprint of every device of a fleet; each probe is measured in a session of its own.

    Parameters
    ----------
    widths
        Of the probes, shape (n_probes, n_groups); by default those of `choose_probes`.
    model
        Name of the model, for the conditions.
    on_progress
        Told (device queries done, device queries in all) now and then.

    Raises
    ------
    FleetError
        When a device gives no usable latency.
    """
    widths = choose_probes(kernels) if widths is None else widths
    if fleet.n_devices == 0:
        raise FleetError(f"fleet '{fleet.name}' has no devices; nothing can be fingerprinted")
    latency = np.empty((fleet.n_devices, len(widths)))
    names = tuple(f"probe{number}" for number in range(len(widths)))
    for number, row in enumerate(widths):
        workload = Workloads(kernels, row[None], (names[number],))
        for first in range(0, fleet.n_devices, _DEVICES_AT_A_TIME):
            devices = np.arange(first, min(first + _DEVICES_AT_A_TIME, fleet.n_devices))
            samples = fleet.measure(workload, devices, runs=runs, seed=seed + number)
            latency[devices, number] = np.median(samples[:, 0], axis=1)
            if on_progress is not None:
                on_progress(number * fleet.n_devices + int(devices[-1]) + 1, latency.size)
    return Fingerprint(
        latency_ms=latency,
        probes=names,
        device_ids=fleet.device_ids,
        runs=runs,
        taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
        conditions={
            "fleet": fleet.describe(),
            "name": fleet.name,
            "source": fleet.source,
            "model": model,
            "seed": seed,
            "widths": [[int(width) for width in row] for row in widths],
        },
        weights=fleet.weights,
    )


def save_fingerprint(fingerprint: Fingerprint, path: Path) -> None:
    """Write a fingerprint as Parquet: one row per device, one column per probe; conditions in the file's metadata."""
    import polars as pl

    columns: dict[str, Any] = {}
    numbered = isinstance(fingerprint.device_ids, NumberedIds)
    if not numbered:
        columns["device"] = list(fingerprint.device_ids)
    for name, values in zip(fingerprint.probes, fingerprint.latency_ms.T, strict=True):
        columns[f"{name}_ms"] = values
    if fingerprint.weights is not None:
        columns["weight"] = fingerprint.weights
    about = {
        "format": _FORMAT,
        "runs": fingerprint.runs,
        "taken_at": fingerprint.taken_at,
        "conditions": fingerprint.conditions,
        "numbered": [fingerprint.device_ids.prefix, fingerprint.n_devices] if numbered else None,  # type: ignore[attr-defined]
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    pl.DataFrame(columns).write_parquet(partial, metadata={"hdapbench": json.dumps(about)})
    partial.replace(path)


def load_fingerprint(path: Path) -> Fingerprint:
    """Fingerprint that `save_fingerprint` wrote.

    Raises
    ------
    FleetError
        When there is no such file, or it is not a fingerprint, or a value is not finite and positive.
    """
    import polars as pl

    if not path.is_file():
        raise FleetError(
            f"there is no fingerprint '{path}'; make one with: hdapbench fleet fingerprint FLEET -o {path}"
        )
    try:
        about = json.loads(pl.read_parquet_metadata(path)["hdapbench"])
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, KeyError, ValueError, OSError):
        raise FleetError(
            f"'{path}' is not a fingerprint that hdapbench wrote; "
            f"for measurements of your own, write a fleet of kind 'recorded' (docs/fleets.md)"
        ) from None
    if about["format"] > _FORMAT:
        raise FleetError(f"'{path}' was written by a newer hdapbench (format {about['format']}); update this one")
    names = [name for name in frame.columns if name.endswith("_ms")]
    latency = np.stack([frame[name].to_numpy() for name in names], axis=1) if names else np.empty((0, 0))
    return Fingerprint(
        latency_ms=checked_fingerprint(latency),
        probes=tuple(name.removesuffix("_ms") for name in names),
        device_ids=NumberedIds(*about["numbered"]) if about["numbered"] else tuple(frame["device"].to_list()),
        runs=about["runs"],
        taken_at=about["taken_at"],
        conditions=about["conditions"],
        weights=frame["weight"].to_numpy() if "weight" in frame.columns else None,
    )


def _candidates(kernels: KernelModel) -> Integers:
    """Widths of models that probes are chosen from, shape (n_candidates, n_groups); the dense one first."""
    sizes = kernels.sizes
    rising = np.linspace(0.3, 1.0, len(sizes))

    def scaled(shares: Floats | float) -> Integers:
        return np.asarray(np.maximum(np.rint(sizes * shares), 1), dtype=np.int64)

    mirrored, alternating = rising[::-1], np.where(np.arange(len(sizes)) % 2, 1.0, 0.25)
    thin = np.maximum(sizes // 4, 1)
    every = [sizes, thin, scaled(rising), scaled(mirrored), scaled(0.5), scaled(0.125), scaled(alternating)]
    every += [scaled(1.25 - alternating), scaled(0.75)]
    return np.asarray(np.stack(every), dtype=np.int64)
