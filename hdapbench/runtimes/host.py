"""The host that latencies are measured on: enough to explain why two machines, or two days, differ."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("hdapbench", "onnxruntime", "torch", "numpy")
ROOT = Path("/")


@dataclass(frozen=True)
class Host:
    """What a machine says of itself; None and empty where it does not.

    Attributes
    ----------
    processor
        Its model.
    n_cpus, n_usable
        Processors, and those that this process may run on.
    governor
        Of the first processor's frequency.
    mhz
        Current clock of each processor.
    celsius
        Name of each sensor, and its temperature.
    load
        Average number of waiting processes over one minute.
    cpu_quota
        Cores that the control group allows; None: all.
    memory_limit_bytes
        Bytes that the control group allows; None: all.
    system
        Operating system and its release.
    python
        Version.
    packages
        Versions of what bears on the times.
    """

    processor: str | None
    n_cpus: int
    n_usable: int
    governor: str | None
    mhz: tuple[float, ...]
    celsius: dict[str, float]
    load: float | None
    cpu_quota: float | None
    memory_limit_bytes: int | None
    system: str
    python: str
    packages: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @property
    def text(self) -> str:
        """One line for readers."""
        parts = [self.processor or "unknown processor", f"{self.n_usable} of {self.n_cpus} processors usable"]
        if self.mhz:
            parts.append(f"{min(self.mhz):,.0f}-{max(self.mhz):,.0f} MHz")
        parts.append(f"governor {self.governor or 'not readable'}")
        if self.celsius:
            parts.append(f"{max(self.celsius.values()):.0f} °C")
        if self.cpu_quota is not None:
            parts.append(f"limited to {self.cpu_quota:g} cores")
        if self.load is not None:
            parts.append(f"load {self.load:.2f}")
        return ", ".join(parts)


def read_host(root: Path = ROOT) -> Host:
    """Host of this process, now.

    Parameters
    ----------
    root
        Folder that holds ``proc`` and ``sys``; for tests.
    """
    info = _text(root / "proc/cpuinfo") or ""
    model = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", info, re.MULTILINE)
    n_cpus = os.cpu_count() or 1
    load = _text(root / "proc/loadavg")
    return Host(
        processor=model[1].strip() if model else platform.processor() or None,
        n_cpus=n_cpus,
        n_usable=len(usable_cpus()),
        governor=_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        mhz=_clocks(root, info),
        celsius=_temperatures(root),
        load=float(load.split()[0]) if load else None,
        cpu_quota=_cpu_quota(root),
        memory_limit_bytes=_memory_limit(root),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        packages=package_versions(PACKAGES),
    )


def usable_cpus() -> tuple[int, ...]:
    """Processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Name -> version of those distributions that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _clocks(root: Path, info: str) -> tuple[float, ...]:
    """Clock of each processor in MHz: of the driver, or else what /proc/cpuinfo says."""
    paths = sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"))
    found = [float(text) / 1000 for text in map(_text, paths) if text]
    return tuple(found or [float(value) for value in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", info, re.MULTILINE)])


def _temperatures(root: Path) -> dict[str, float]:
    found = {}
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        value = _text(zone / "temp")
        if value and value.lstrip("-").isdigit():
            found[f"{_text(zone / 'type') or 'zone'} {zone.name.removeprefix('thermal_zone')}"] = int(value) / 1000
    return found


def _cpu_quota(root: Path) -> float | None:
    """Cores that a control group allows, of version 2 or 1."""
    for folder in _groups(root, "cpu"):
        limits = (_text(folder / "cpu.max") or "").split()
        if len(limits) != 2:
            limits = [_text(folder / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
        if all(limit.isdigit() for limit in limits) and int(limits[1]):
            return int(limits[0]) / int(limits[1])
    return None


def _memory_limit(root: Path) -> int | None:
    for folder in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _text(folder / name) or ""
            if limit.isdigit() and int(limit) < 1 << 60:  # version 1 writes a huge number for none
                return int(limit)
    return None


def _groups(root: Path, controller: str) -> list[Path]:
    """Folders of this process's control group, from the innermost outwards."""
    found: list[Path] = []
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names and controller not in names.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if names else "")
        inner = mount / path.strip("/")
        found += [folder for folder in (inner, *inner.parents) if folder == mount or mount in folder.parents]
    return found


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None
