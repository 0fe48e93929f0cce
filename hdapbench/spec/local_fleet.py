"""Spec of a local fleet: devices on this host that differ for real, one by one or drawn from a declared mix."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from hdapbench.spec.base import Name, Strict, sequence_to_tuple
from hdapbench.spec.fleets import FleetSpec
from hdapbench.spec.runtime import RuntimeSpec

CpuShare = Annotated[float, Field(ge=0.05, le=1.0)]
Cpus = Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(sequence_to_tuple), Field(min_length=1)]
MOST_HOGS = 8


class ConditionsSpec(Strict):
    """What a device on this host runs, and under which conditions.

    ``cpu_share``, ``nice`` and hogs make a device slower and hardly change which plan is fastest; another runtime, no
    graph optimisation or another instruction set change that too.
    """

    runtime: RuntimeSpec = Field(default_factory=RuntimeSpec, description="What executes models, and with how much.")
    cpus: Cpus | None = Field(default=None, description="CPUs that the device may run on; null: any.")
    nice: int = Field(default=0, ge=0, le=19, description="Priority of its process; matters where CPUs are contended.")
    memory_hogs: int = Field(
        default=0, ge=0, le=MOST_HOGS, description="Processes that stream through memory while the device is timed."
    )
    cache_hogs: int = Field(
        default=0, ge=0, le=MOST_HOGS, description="Processes that walk through the caches while the device is timed."
    )

    @model_validator(mode="after")
    def _threads_fit(self) -> ConditionsSpec:
        if self.cpus is not None and len(set(self.cpus)) < len(self.cpus):
            raise ValueError(f"cpus names one twice: {list(self.cpus)}")
        if self.cpus is not None and self.runtime.threads > len(self.cpus):
            raise ValueError(f"{self.runtime.threads} threads do not fit on {len(self.cpus)} of the CPUs")
        return self


class LocalDeviceSpec(ConditionsSpec):
    """A device on this host."""

    name: Name = Field(description="Name of the device.")
    cpu_share: CpuShare = Field(default=1.0, description="Share of the time in which its threads may run.")


class LocalKindSpec(ConditionsSpec):
    """A kind of device that part of a local fleet is."""

    name: Name = Field(max_length=50, description="Name of the kind; its devices are numbered.")
    share: Annotated[float, Field(gt=0.0, le=1.0)] = Field(description="Share of the devices.")
    cpu_share: Annotated[tuple[CpuShare, CpuShare], BeforeValidator(sequence_to_tuple)] = Field(
        default=(1.0, 1.0), description="Least and greatest share of the time in which threads may run, drawn by seed."
    )

    @model_validator(mode="after")
    def _in_order(self) -> LocalKindSpec:
        if self.cpu_share[0] > self.cpu_share[1]:
            raise ValueError(f"cpu_share: {self.cpu_share[0]:g} is the least and exceeds {self.cpu_share[1]:g}")
        return self


class LocalFleetSpec(FleetSpec):
    """Devices on this host that differ for real: each a process of its own that runs the exported models."""

    on_this_host: ClassVar[bool] = True
    is_live: ClassVar[bool] = True

    kind: Literal["local"] = Field(description="Where latencies come from.")
    devices: Annotated[tuple[LocalDeviceSpec, ...], BeforeValidator(sequence_to_tuple)] | None = Field(
        default=None, description="The devices one by one; or n_devices and mix."
    )
    n_devices: int | None = Field(default=None, ge=1, le=1000, description="Number of devices drawn from mix.")
    mix: Annotated[tuple[LocalKindSpec, ...], BeforeValidator(sequence_to_tuple)] | None = Field(
        default=None, description="Kinds of devices and their shares."
    )
    seed: int = Field(default=0, ge=0, description="Seed of what the mix leaves open, and of the order of measuring.")
    rounds: int = Field(
        default=3, ge=1, le=20, description="Rounds that repeats are spread over; each visits the devices anew."
    )
    foreign_load: float = Field(
        default=0.3, ge=0.0, description="Cores used by other processes above which a visit is repeated, and flagged."
    )
    retries: int = Field(default=2, ge=0, le=20, description="Times that a visit under foreign load is repeated.")
    drift: Literal["divide", "keep"] = Field(
        default="divide", description="Divide out by how much a fixed reference network became slower since the start."
    )

    @model_validator(mode="after")
    def _devices_are_declared_once(self) -> LocalFleetSpec:
        drawn = self.n_devices is not None and self.mix is not None
        if (self.n_devices is None) != (self.mix is None) or drawn == (self.devices is not None):
            raise ValueError("a local fleet lists its devices, or has n_devices and mix")
        for key, names in (
            ("devices", [device.name for device in self.devices or ()]),
            ("mix", [kind.name for kind in self.mix or ()]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{key} names {twice} twice")
        if self.devices is not None and not self.devices:
            raise ValueError("devices: a fleet needs at least one")
        if self.mix is not None and abs(sum(kind.share for kind in self.mix) - 1) > 1e-6:
            raise ValueError(f"mix: shares sum to {sum(kind.share for kind in self.mix):g}, not 1")
        return self
