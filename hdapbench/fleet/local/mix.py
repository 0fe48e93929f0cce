"""Devices fitted to a host: as different as it allows, for those who do not want to write each one down."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from hdapbench.errors import FleetError
from hdapbench.spec import LocalDeviceSpec

MOST_DEVICES = 64
_LEAST_SHARE, _MOST_SHARE = 0.3, 0.9


def fitted_devices(n_devices: int, cpus: Sequence[int], *, seed: int) -> tuple[LocalDeviceSpec, ...]:
    """Devices that this host can be, in the order of what they add to a fleet; after the last kind the first again.

    Kinds that only scale latency (CPU share, priority, affinity, threads) alternate with those that change which plan
    is fastest (no graph optimisation, torch, older instructions).

    Parameters
    ----------
    cpus
        CPUs that may be used.
    seed
        Of CPU shares, and of the CPU that a device is pinned to.

    Raises
    ------
    FleetError
        When there are too few or too many devices.
    """
    if not 1 <= n_devices <= MOST_DEVICES:
        raise FleetError(f"--local {n_devices}: from 1 to {MOST_DEVICES} devices")
    rng = np.random.default_rng(seed)
    kinds = _kinds(len(cpus))
    devices = []
    for number in range(n_devices):
        name, drawn, conditions = kinds[number % len(kinds)]
        fields: dict[str, Any] = dict(conditions)
        if "share" in drawn:
            fields["cpu_share"] = round(float(rng.uniform(_LEAST_SHARE, _MOST_SHARE)), 2)
        if "cpu" in drawn:
            fields["cpus"] = [int(rng.choice(list(cpus)))]
        turn = number // len(kinds)
        devices.append(LocalDeviceSpec.model_validate({"name": f"{name}-{turn}" if turn else name} | fields))
    return tuple(devices)


def _kinds(n_cpus: int) -> list[tuple[str, str, dict[str, Any]]]:
    """Name, what is drawn, and the other conditions of each kind that a host of so many CPUs can be."""
    usual = "onnxruntime" if find_spec("onnxruntime") is not None else "eager"
    plain = {"runtime": usual}
    found: list[tuple[str, str, dict[str, Any]]] = [("plain", "", {"runtime": plain})]
    if usual == "onnxruntime":
        found.append(("no-optimization", "", {"runtime": {"graph_optimization": "none"}}))
    found.append(("throttled", "share", {"runtime": plain}))
    if n_cpus >= 3:  # one CPU stays free
        found.append(("threads2", "", {"runtime": plain | {"threads": 2}}))
    if usual == "onnxruntime":
        found.append(("torch", "", {"runtime": {"runtime": "eager"}}))
    found.append(("pinned", "cpu", {"runtime": plain, "nice": 5}))
    if usual == "onnxruntime":
        found.append(("no-optimization-throttled", "share", {"runtime": {"graph_optimization": "none"}}))
    if platform.machine().lower() in ("x86_64", "amd64"):
        found.append(("torch-avx2", "", {"runtime": {"runtime": "eager", "isa": "avx2"}}))
    if n_cpus >= 3:
        found.append(("beside-a-hog", "", {"runtime": plain, "memory_hogs": 1}))
        found.append(("threads2-throttled", "share", {"runtime": plain | {"threads": 2}}))
    if n_cpus >= 6:
        found.append(("threads4", "", {"runtime": plain | {"threads": 4}}))
    found.append(("polite", "share", {"runtime": plain, "nice": 10}))
    return found
