"""Fingerprints: what a few probe models take on every device, with date and conditions, on disk as Parquet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hdapbench.arrays import Floats
from hdapbench.errors import FleetError
from hdapbench.files import replacing
from hdapbench.fleet.damaged import table_errors
from hdapbench.fleet.ids import NumberedIds
from hdapbench.fleet.weights import device_shares

_FORMAT = 1


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
    noise
        Relative variance of a median, as far as repeats tell all of it; None where they do not.
    """

    latency_ms: Floats
    probes: tuple[str, ...]
    device_ids: Sequence[str]
    runs: int
    taken_at: str = ""
    conditions: dict[str, Any] = field(default_factory=dict)
    weights: Floats | None = None
    noise: float | None = None

    @property
    def n_devices(self) -> int:
        """Number of devices."""
        return len(self.latency_ms)

    def without(self, probe: str) -> Fingerprint:
        """The same without one of its probes; the only one stays."""
        kept = [number for number, name in enumerate(self.probes) if name != probe]
        if not kept:
            return self
        names = tuple(self.probes[number] for number in kept)
        return replace(self, latency_ms=self.latency_ms[:, kept], probes=names)


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
        "noise": fingerprint.noise,
        "numbered": [fingerprint.device_ids.prefix, fingerprint.n_devices] if numbered else None,  # type: ignore[attr-defined]
    }
    with replacing(path) as partial:
        pl.DataFrame(columns).write_parquet(partial, metadata={"hdapbench": json.dumps(about)})


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
    foreign = FleetError(
        f"'{path}' is not a fingerprint that hdapbench wrote; "
        f"for measurements of your own, write a fleet of kind 'recorded' (docs/fleets.md)"
    )
    try:
        about = json.loads(pl.read_parquet_metadata(path)["hdapbench"])
        newer = about["format"] > _FORMAT
        if newer:
            raise FleetError(f"'{path}' was written by a newer hdapbench (format {about['format']}); update this one")
        frame = pl.read_parquet(path)
        names = [name for name in frame.columns if name.endswith("_ms")]
        latency = np.empty((0, 0))
        if names:
            latency = np.stack([frame[name].to_numpy().astype(float) for name in names], axis=1)
        found = Fingerprint(
            latency_ms=latency,
            probes=tuple(name.removesuffix("_ms") for name in names),
            device_ids=NumberedIds(*about["numbered"]) if about["numbered"] else tuple(map(str, frame["device"])),
            runs=int(about["runs"]),
            taken_at=str(about["taken_at"]),
            conditions=dict(about["conditions"]),
            noise=None if about.get("noise") is None else float(about["noise"]),
            weights=frame["weight"].to_numpy().astype(float) if "weight" in frame.columns else None,
        )
        n_named = len(found.device_ids)
    except table_errors():
        raise foreign from None
    if names and n_named != found.n_devices:
        raise foreign
    if found.weights is not None:
        device_shares(found.n_devices, found.weights)
    return replace(found, latency_ms=checked_fingerprint(latency))


def checked_fingerprint(fingerprint_ms: Floats) -> Floats:
    """Fingerprint as an array of shape (n_devices, n_probes).

    Raises
    ------
    FleetError
        When it is empty, or a value is not finite and positive; names the first such device.
    """
    fingerprint = np.atleast_2d(np.asarray(fingerprint_ms, dtype=float))
    if fingerprint.size == 0:
        raise FleetError("an empty fleet cannot be clustered")
    usable = (np.isfinite(fingerprint) & (fingerprint > 0)).all(axis=1)
    if not usable.all():
        device = int(np.argmin(usable))
        more = f" ({int((~usable).sum())} devices in all)" if (~usable).sum() > 1 else ""
        raise FleetError(
            f"device {device} has a fingerprint that is not finite and positive: {fingerprint[device]}{more}"
        )
    return fingerprint
