"""The fleets of a spec: where latencies come from, how devices differ, how they are clustered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from hdapbench.files import expand_path
from hdapbench.spec.base import Name, Strict, sequence_to_tuple
from hdapbench.spec.clustering import ClusteringSpec

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Load = Annotated[float, Field(ge=0.0, lt=1.0)]
LogSd = Annotated[float, Field(ge=0.0, le=3.0)]
LoadRange = Annotated[tuple[Load, Load], BeforeValidator(sequence_to_tuple)]


class FleetSpec(Strict):
    """What every fleet's spec has; that of a kind adds its own keys and narrows ``kind`` to its name.

    Attributes
    ----------
    file_key
        Key that names a file, if there is one: its path starts from the spec's folder, and trials go by its content.
    on_this_host
        Whether latencies are measured on the host that runs the benchmark: its trials are then those of that host.
    is_live
        Whether latencies are measured while the benchmark runs: what was measured is then kept from trial to trial.
    not_in_ids
        Keys that no number depends on, such as an address: trials keep their ids when these change.
    """

    file_key: ClassVar[str | None] = None
    on_this_host: ClassVar[bool] = False
    is_live: ClassVar[bool] = False
    not_in_ids: ClassVar[frozenset[str]] = frozenset()

    name: Name = Field(description="How boards call this fleet.")
    kind: str = Field(description="Where latencies come from.")
    runs: int = Field(default=7, ge=1, le=1000, description="Repeats per measurement; the median counts.")
    clustering: ClusteringSpec = Field(default_factory=ClusteringSpec, description="How devices are clustered.")

    @property
    def file(self) -> str | None:
        """The file that the fleet is read from, as the spec writes it."""
        return None if self.file_key is None else str(getattr(self, self.file_key))

    def with_file(self, name: str) -> Self:
        """The same fleet, read from a file of another name."""
        return self if self.file_key is None else self.model_copy(update={self.file_key: name})

    def located(self, folder: Path) -> Self:
        """The same fleet, whose file is found from anywhere: relative paths start from ``folder``."""
        return self if self.file is None else self.with_file(str(folder / expand_path(self.file)))

    def code(self, folder: Path) -> tuple[str, dict[str, Any]] | None:  # noqa: ARG002
        """What is run besides the kind's own code, such as a command, and with what: the user is asked to trust it.

        None where nothing is.

        Parameters
        ----------
        folder
            Where relative paths start from.
        """
        return None


class PlaceSpec(Strict):
    """A kind of place that devices stand in."""

    share: Fraction = Field(description="Share of the devices.")
    mean_celsius: float = Field(ge=-60, le=90, description="Mean ambient temperature.")
    sd_celsius: float = Field(default=0.0, ge=0, le=50, description="Standard deviation of the ambient temperature.")


class StackSpec(Strict):
    """A software stack that part of the fleet runs."""

    share: Fraction = Field(description="Share of the devices; what is left runs the current stack.")
    narrow_tile_factor: float = Field(
        default=1.0, ge=1.0, le=8.0, description="Tiles narrower than 128 columns are wider by this factor."
    )
    depthwise_slowdown: float = Field(
        default=1.0, gt=0.0, le=1000.0, description="Factor on the compute time of depthwise kernels."
    )


class ScenarioSpec(Strict):
    """Distributions of the devices' physical state; what is not named is taken from ``base``.

    ``*_log_sd`` are standard deviations of logarithms.
    """

    base: Literal["same_config", "mixed", "harsh"] = Field(description="The scenario that this one changes.")
    modes: dict[str, Fraction] | None = Field(default=None, description="Share of the devices per power mode.")
    places: dict[str, PlaceSpec] | None = Field(default=None, description="Where devices stand.")
    thermal_resistance_log_sd: LogSd | None = Field(default=None, description="Spread of thermal resistance.")
    dynamic_power_log_sd: LogSd | None = Field(default=None, description="Spread of dynamic power: silicon.")
    leakage_log_sd: LogSd | None = Field(default=None, description="Spread of leakage power: silicon.")
    busy_share: Fraction | None = Field(default=None, description="Share of the devices with background load.")
    gpu_load: LoadRange | None = Field(default=None, description="Lowest and highest GPU share taken on busy devices.")
    memory_load: LoadRange | None = Field(
        default=None, description="Lowest and highest share of DRAM bandwidth taken on busy devices."
    )
    cpu_contention_mean: float | None = Field(default=None, ge=0, le=100, description="Mean of CPU contention.")
    capped_share: Fraction | None = Field(default=None, description="Share of the devices with a worn supply.")
    stacks: Annotated[tuple[StackSpec, ...], BeforeValidator(sequence_to_tuple)] | None = Field(
        default=None, description="Software stacks besides the current one."
    )
    gpu_residual_log_sd: LogSd | None = Field(default=None, description="Unit-to-unit spread of compute time.")
    memory_residual_log_sd: LogSd | None = Field(default=None, description="Unit-to-unit spread of memory time.")
    launch_residual_log_sd: LogSd | None = Field(default=None, description="Unit-to-unit spread of launch time.")

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> ScenarioSpec:
        for key, shares in (
            ("modes", None if self.modes is None else list(self.modes.values())),
            ("places", None if self.places is None else [place.share for place in self.places.values()]),
        ):
            if shares is not None and abs(sum(shares) - 1) > 1e-6:
                raise ValueError(f"{key}: shares sum to {sum(shares):g}, not 1")
        if self.stacks is not None and sum(stack.share for stack in self.stacks) > 1 + 1e-6:
            raise ValueError(f"stacks: shares sum to {sum(stack.share for stack in self.stacks):g}, more than 1")
        for key in ("gpu_load", "memory_load"):
            load = getattr(self, key)
            if load is not None and load[0] > load[1]:
                raise ValueError(f"{key}: {load[0]:g} is the lowest and exceeds the highest, {load[1]:g}")
        return self


def _named_scenario(value: object) -> object:
    return {"base": value} if isinstance(value, str) else value


class NoiseSpec(Strict):
    """How measurements of a simulated fleet stray."""

    log_sd: LogSd = Field(default=0.02, description="Standard deviation of a repeat's logarithm.")
    spike_probability: Fraction = Field(default=0.03, description="Probability that a repeat has a spike.")
    spike_mean: float = Field(default=0.5, ge=0, le=100, description="Mean of exponential spikes, relative.")
    session_drift_log_sd: LogSd = Field(default=0.01, description="Drift of a device from session to session.")


class SimulatedFleetSpec(FleetSpec):
    """Devices of one SKU, simulated by the reference model of docs/fleets.md."""

    file_key: ClassVar[str | None] = "sku"

    kind: Literal["simulated"] = Field(description="Where latencies come from.")
    sku: str = Field(min_length=1, description="Profile of the board (xavier_nx, nano), or a YAML file of one.")
    scenario: Annotated[ScenarioSpec, BeforeValidator(_named_scenario)] = Field(
        description="Distribution of the devices' states: same_config, mixed, harsh, or changes to one of them."
    )
    n_devices: int = Field(ge=1, le=10_000_000, description="Number of devices.")
    seed: int = Field(default=0, ge=0, description="Seed of the devices' states.")
    precision: Literal["fp32", "fp16", "tc16"] = Field(default="fp32", description="Arithmetic of the engine.")
    uptime_seconds: float | None = Field(
        default=None, ge=0.0, description="Seconds since devices started cold; null: in thermal equilibrium."
    )
    noise: NoiseSpec = Field(default_factory=NoiseSpec, description="How measurements stray.")

    @property
    def file(self) -> str | None:
        """The profile of a board of the user's own; None for one that ships."""
        return self.sku if self.sku.endswith((".yaml", ".yml")) else None


class RecordedFleetSpec(FleetSpec):
    """Devices whose latencies were measured elsewhere and stand in a file, one row per sample."""

    file_key: ClassVar[str | None] = "path"

    kind: Literal["recorded"] = Field(description="Where latencies come from.")
    path: str = Field(min_length=1, description="CSV or Parquet file; ${NAME}, ${NAME:-default} and ~ are expanded.")
    unit: Literal["s", "ms", "us", "ns"] | None = Field(
        default=None, description="Unit of the latencies; null takes it from the column's name."
    )
    device_column: str = Field(default="device", min_length=1, description="Column that names the device.")
    plan_column: str = Field(default="plan", min_length=1, description="Column that names the probe or plan.")
    latency_column: str | None = Field(
        default=None, description="Column of latencies; null finds latency_ms, latency_s, latency_us or latency."
    )
    weight_column: str | None = Field(default=None, description="Column of the devices' weights; null: all equal.")
    probes: Annotated[tuple[str, ...], BeforeValidator(sequence_to_tuple)] | None = Field(
        default=None, description="Plans that are the fingerprint; null: at most three that every device has."
    )
    invalid: Literal["fail", "drop"] = Field(
        default="fail", description="What rows with impossible latencies do: fail, or drop with a count."
    )
