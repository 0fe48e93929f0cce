"""Probes: which models tell devices apart, and timing them on every device of a fleet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.kernels import KernelModel
from hdapbench.errors import FleetError
from hdapbench.fleet.base import DeviceLostError, Fleet, Variants, Workloads
from hdapbench.fleet.fingerprint import Fingerprint

N_PROBES = 3
_DEVICES_AT_A_TIME = 1 << 16
_ROUNDING = 1e-3


def choose_probes(kernels: KernelModel, fleet: Fleet | None = None, *, n_probes: int = N_PROBES) -> Integers:
    """Widths of probe models that differ in what bounds them, shape (n_probes, n_groups).

    Without a fleet that knows what bounds models: the dense model, bound by compute; a thin one, by launches and
    memory; one that is narrow where maps are large and wide where they are small; then their mirror image and a
    half-wide one.

    With such a fleet, probes are chosen from a candidate set: the dense model first, then the ones that add most to
    what the probes tell apart. What bounds a model (`Fleet.bound_shares`) is the share of its latency that goes to
    launches, compute and memory, which is the gradient of its log latency in the devices' multipliers; the choice
    maximises the determinant of the gradients' Gram matrix (a greedy D-optimal design).

    Parameters
    ----------
    kernels
        Fused kernels of the model that probes are widths of.
    fleet
        The fleet that is to be fingerprinted; None: any.
    n_probes
        How many.

    Raises
    ------
    FleetError
        When more probes are wanted than there are candidates.
    """
    candidates = _candidates(kernels)
    if n_probes > len(candidates):
        raise FleetError(f"there are {len(candidates)} candidates for probes; {n_probes} were asked for")
    bounds = None if fleet is None else fleet.bound_shares(kernels, candidates)  # (n_candidates, n_parts)
    if bounds is None:
        return candidates[:n_probes]
    chosen = [0]
    while len(chosen) < n_probes:
        left = [number for number in range(len(candidates)) if number not in chosen]
        gains = []
        for number in left:
            rows = bounds[[*chosen, number]]
            gains.append(np.linalg.slogdet(rows @ rows.T + _ROUNDING * np.eye(len(rows)))[1])
        chosen.append(left[int(np.argmax(gains))])
    return np.asarray(candidates[chosen], dtype=np.int64)


def take_fingerprint(
    fleet: Fleet,
    kernels: KernelModel,
    *,
    runs: int,
    seed: int,
    widths: Integers | None = None,
    model: str = "",
    variants: Variants | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Fingerprint:
    """Fingerprint of every device of a fleet; each probe is measured in a session of its own.

    A device that is lost meanwhile is left out; the conditions say so.

    Parameters
    ----------
    widths
        Of the probes, shape (n_probes, n_groups); by default those of `choose_probes`.
    model
        Name of the model, for the conditions.
    variants
        How the probes are built, for fleets that run models.
    on_progress
        Told (device queries done, device queries in all) now and then.

    Raises
    ------
    FleetError
        When a device gives no usable latency, or all are lost.
    """
    widths = choose_probes(kernels) if widths is None else widths
    if fleet.n_devices == 0:
        raise FleetError(f"fleet '{fleet.name}' has no devices; nothing can be fingerprinted")
    latency = np.empty((fleet.n_devices, len(widths)))
    answers, lost = np.ones(fleet.n_devices, dtype=bool), {}
    names = tuple(f"probe{number}" for number in range(len(widths)))
    for number, row in enumerate(widths):
        workload = Workloads(kernels, row[None], (names[number],), variants)
        for first in range(0, fleet.n_devices, _DEVICES_AT_A_TIME):
            last = min(first + _DEVICES_AT_A_TIME, fleet.n_devices)
            while (devices := first + np.flatnonzero(answers[first:last])).size:
                try:
                    samples = fleet.measure(workload, devices, runs=runs, seed=seed + number)
                except DeviceLostError as error:
                    answers[error.device] = False
                    lost[fleet.device_ids[error.device]] = str(error)
                    continue
                latency[devices, number] = np.median(samples[:, 0], axis=1)
                break
            if on_progress is not None:
                on_progress(number * fleet.n_devices + last, latency.size)
    if not answers.any():
        raise FleetError(f"fleet '{fleet.name}' has no device that answers: {'; '.join(lost.values())}")
    weights = fleet.weights
    return Fingerprint(
        latency_ms=latency[answers],
        probes=names,
        device_ids=tuple(np.array(fleet.device_ids)[answers].tolist()) if lost else fleet.device_ids,
        runs=runs,
        taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
        conditions={
            "fleet": fleet.describe(),
            "name": fleet.name,
            "source": fleet.source,
            "model": model,
            "seed": seed,
            "widths": [[int(width) for width in row] for row in widths],
            **({"lost": lost} if lost else {}),
        },
        weights=weights if weights is None or not lost else weights[answers] / weights[answers].sum(),
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
