"""RecordedFleet: devices whose latencies were measured elsewhere and stand in a CSV or Parquet file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.errors import FleetError
from hdapbench.files import expand_path
from hdapbench.fleet.base import DeviceLostError, Fleet, LatencySource, Workloads
from hdapbench.fleet.fingerprint import Fingerprint
from hdapbench.fleet.noise import Noise
from hdapbench.fleet.recorded.lacking import require_recorded
from hdapbench.fleet.recorded.matrix import LatencyMatrix
from hdapbench.fleet.recorded.reading import (
    MS_PER_UNIT,
    checked_unit,
    collected,
    count_problems,
    latency_column,
    scan,
    tidy_rows,
    usable_rows,
)
from hdapbench.fleet.recorded.weights import recorded_weights
from hdapbench.spec import RecordedFleetSpec, did_you_mean

if TYPE_CHECKING:
    import polars as pl

MOST_PROBES = 3
"""Plans that are the fingerprint where the spec names none: others are left that can be estimated and compared."""


class RecordedFleet(Fleet):
    """Devices of a file with one row per sample, read lazily and checked.

    The columns are device, plan and latency; optionally ``sample``, which numbers the repeats, and a device's weight.
    Probes are plans that every device has. Times can be had of recorded plans alone.

    Parameters
    ----------
    spec
        Path, columns, unit and what to do with impossible rows.
    on_lacking
        Told names and widths of plans that were asked for and are not recorded.

    Raises
    ------
    FleetError
        When the file cannot be read, lacks a column, has impossible rows (each kind counted), or its unit is in doubt.
    """

    source: LatencySource = "measured"

    def __init__(
        self, spec: RecordedFleetSpec, *, on_lacking: Callable[[dict[str, tuple[int, ...]]], None] | None = None
    ) -> None:
        import polars as pl

        self.path = expand_path(spec.path)
        if spec.unit is None and LatencyMatrix(self.path).plans_path.exists():
            spec = spec.model_copy(update={"unit": "ms"})  # written here: a tiny model's microseconds are no mistake
        self.spec = spec
        self.name = spec.name
        self._on_lacking = on_lacking
        frame = scan(self.path)
        column, told = latency_column(frame, spec, self.path)
        rows = tidy_rows(frame, spec, column)
        self.counts = count_problems(rows, self.path)
        if self.counts.wrong and spec.invalid == "fail":
            raise FleetError(
                f"{self.path}: {self.counts.located} (of {self.counts.rows:,}); correct them, or drop them with: "
                f"invalid: drop (on the command line: --set invalid=drop)"
            )
        usable = usable_rows(rows)
        self._medians = self._collected(
            usable.group_by("device", "plan").agg(pl.col("latency").median(), pl.len().alias("n"))
        ).sort("device", "plan")
        if self._medians.is_empty():
            raise FleetError(f"{self.path}: no usable rows; a recorded fleet needs at least one device and one plan")
        self.unit = checked_unit(self._medians, told, spec, column, self.path)
        self._rows = usable
        self._by_plan = self._medians.partition_by("plan", as_dict=True)
        self.device_ids = tuple(self._medians["device"].unique().sort().to_list())
        self.weights = recorded_weights(frame, spec, self.path, self.device_ids)
        self._read: dict[tuple[str, ...], dict[str, list[Floats]]] = {}

    @cached_property
    def plans(self) -> tuple[str, ...]:
        """Names of all recorded plans."""
        return tuple(sorted(str(plan) for (plan,) in self._by_plan))

    @cached_property
    def complete_plans(self) -> tuple[str, ...]:
        """Plans that every device has."""
        return tuple(plan for plan in self.plans if len(self._by_plan[(plan,)]) == self.n_devices)

    @cached_property
    def lacking(self) -> dict[str, tuple[str, ...]]:
        """Plans that some devices lack, with those devices."""
        return {
            plan: tuple(np.array(self.device_ids)[np.isnan(self.medians_ms(plan))].tolist())
            for plan in self.plans
            if plan not in self.complete_plans
        }

    def model_of(self, plan: str) -> str | None:
        """The model that a plan is of, as noted beside the file; None where it is not."""
        return self._matrix.model_of(plan)

    def describe(self) -> dict[str, str | int | float]:
        """Kind, file, devices, plans and samples, and what was dropped."""
        facts: dict[str, str | int | float] = {
            "kind": "recorded",
            "file": self.path.name,
            "n_devices": self.n_devices,
            "n_plans": len(self.plans),
            "n_samples": int(self._medians["n"].sum()),
        }
        facts |= {"dropped": self.counts.listed} if self.counts.wrong else {}
        missing = "; ".join(_some(plan, devices) for plan, devices in list(self.lacking.items())[:3])
        more = f"; and {len(self.lacking) - 3} more plans" if len(self.lacking) > 3 else ""
        return facts | ({"not on every device": missing + more} if missing else {})

    def medians_ms(self, plan: str) -> Floats:
        """Median latency of a plan on each device in ms, shape (n_devices,); NaN where it was not measured.

        Raises
        ------
        FleetError
            When the plan was not recorded.
        """
        frame = self._by_plan[(self._known(plan),)]
        latency = np.full(self.n_devices, np.nan)
        latency[self._positions(frame)] = frame["latency"].to_numpy() * MS_PER_UNIT[self.unit]
        return latency

    def mean_latency_ms(self, workloads: Workloads) -> Floats:
        """Mean over all devices of their recorded medians, shape (n_workloads,); NaN for plans that some lack."""
        return np.array([np.average(self.medians_ms(plan), weights=self.weights) for plan in workloads.ids])

    def recorded_fingerprint(self) -> Fingerprint:
        """Fingerprint of the probes: the plans that the spec names, or some that every device has.

        Of more than three such plans they are the slowest, the fastest and the one in the middle.

        Raises
        ------
        FleetError
            When a probe is unknown or some devices lack it, or no plan was measured on every device.
        """
        probes = self._probes
        if not probes:
            best = max(self.plans, key=lambda plan: len(self._by_plan[(plan,)]))
            raise FleetError(
                f"{self.path}: no plan was measured on every device; '{best}' comes nearest with "
                f"{len(self._by_plan[(best,)])} of {self.n_devices} devices"
            )
        columns = []
        for probe in probes:
            latency = self.medians_ms(probe)
            lacking = np.flatnonzero(np.isnan(latency))
            if lacking.size:
                raise FleetError(
                    f"{self.path}: probe '{probe}' is missing on {lacking.size} of {self.n_devices} devices, "
                    f"such as {self.device_ids[int(lacking[0])]}"
                )
            columns.append(latency)
        return Fingerprint(
            latency_ms=np.stack(columns, axis=1),
            probes=tuple(probes),
            device_ids=self.device_ids,
            runs=int(self._medians.filter(self._medians["plan"].is_in(list(probes)))["n"].min() or 1),  # type: ignore[arg-type]
            conditions={"fleet": self.describe(), "name": self.name, "source": self.source, "recorded": str(self.path)},
            weights=self.weights,
            noise=self.typical_noise,
        )

    def sample(self, workloads: Workloads, devices: Integers, *, runs: int, seed: int) -> Floats:
        """Recorded samples in ms, shape (n_picked_devices, n_workloads, runs).

        Of more samples than ``runs`` a random choice without repeats; fewer are filled up with their median, which
        stays where it is.

        Raises
        ------
        DeviceLostError
            When a plan was not recorded on one of the devices.
        FleetError
            When plans were recorded on no device, or of another network than the one that is asked about.
        """
        require_recorded(workloads, self.plans, self._matrix, on_lacking=self._on_lacking)
        found = self._samples(tuple(workloads.ids))
        samples = np.empty((len(devices), len(workloads), runs))
        for column, plan in enumerate(workloads.ids):
            for row, device in enumerate(devices.tolist()):
                values = found[plan][device]
                if not len(values):
                    message = f"{self.path}: plan '{plan}' was not measured on device {self.device_ids[device]}"
                    message += "; have it measured (hdapbench fleet ask SPEC --all), or remove the device's rows"
                    raise DeviceLostError(device, message)
                if len(values) > runs:
                    values = np.random.default_rng([seed, device, column]).permutation(values)[:runs]
                samples[row, column, : len(values)] = values
                if len(values) < runs:
                    samples[row, column, len(values) :] = np.median(values)
        return samples

    def noise(self, workloads: Workloads, devices: Integers, *, runs: int) -> Noise:
        """Noise of the medians of `sample`, from the scatter of every recorded sample of these plans and devices."""
        found = self._samples(tuple(workloads.ids))
        return Noise.of([[found[plan][device] for device in devices.tolist()] for plan in workloads.ids], runs=runs)

    @cached_property
    def typical_noise(self) -> float:
        """Mean relative variance of the medians of the probes; zero where no sample was repeated."""
        every, most = np.arange(self.n_devices), self.most_samples(self._probes)
        return float(self.noise(Workloads.named(self._probes), every, runs=most).variance.mean())

    def devices_of(self, plan: str) -> tuple[int, ...] | None:
        """Positions of the devices that have a plan, where some lack it; None where all have it."""
        has = np.flatnonzero(~np.isnan(self.medians_ms(plan)))
        return None if len(has) == self.n_devices else tuple(has.tolist())

    def most_samples(self, plans: Sequence[str]) -> int:
        """Samples of the cell that has most, of some plans: with as many ``runs`` every sample counts."""
        return max(int(self._by_plan[(self._known(plan),)]["n"].max()) for plan in plans)  # type: ignore[arg-type]

    @cached_property
    def _probes(self) -> tuple[str, ...]:
        """The spec's probes, or those noted beside the file, or the slowest, fastest and middle plan of all devices."""
        if self.spec.probes:
            return self.spec.probes
        if self._matrix.probes and set(self._matrix.probes) <= set(self.complete_plans):
            return self._matrix.probes
        slowest_first = sorted(self.complete_plans, key=lambda plan: -float(self.medians_ms(plan).mean()))
        if len(slowest_first) <= MOST_PROBES:
            return self.complete_plans
        places = np.linspace(0, len(slowest_first) - 1, MOST_PROBES).astype(int)
        return tuple(slowest_first[place] for place in places)

    @cached_property
    def _matrix(self) -> LatencyMatrix:
        return LatencyMatrix(self.path)

    def _samples(self, plans: tuple[str, ...]) -> dict[str, list[Floats]]:
        """Plan -> its sorted samples in ms on every device, each of shape (n_samples,); none where there are none."""
        if plans not in self._read:  # the latest ones are kept: samples and their noise are asked for one after another
            self._read = {plans: self._read_samples(plans)}
        return self._read[plans]

    def _read_samples(self, plans: tuple[str, ...]) -> dict[str, list[Floats]]:
        import polars as pl

        wanted = self._rows.filter(pl.col("plan").is_in([self._known(plan) for plan in plans]))
        cells = self._collected(wanted.group_by("device", "plan").agg(pl.col("latency").sort()))
        samples = {plan: [np.empty(0)] * self.n_devices for plan in plans}
        for position, plan, values in zip(
            self._positions(cells).tolist(), cells["plan"], cells["latency"], strict=True
        ):
            samples[plan][position] = values.to_numpy() * MS_PER_UNIT[self.unit]
        return samples

    def _collected(self, frame: pl.LazyFrame) -> pl.DataFrame:
        return collected(frame, self.path)

    def _known(self, plan: str) -> str:
        if (plan,) not in self._by_plan:
            raise FleetError(
                f"{self.path}: plan '{plan}' was not recorded; a recorded fleet can time only the plans in its file"
                f"{did_you_mean(plan, self.plans[:20])}"
            )
        return plan

    def _positions(self, frame: pl.DataFrame) -> Integers:
        return np.searchsorted(np.array(self.device_ids), frame["device"].to_numpy().astype(str))


def _some(plan: str, devices: Sequence[str]) -> str:
    """A plan, and the devices that lack it, at most three by name."""
    more = f" and {len(devices) - 3} more" if len(devices) > 3 else ""
    return f"{plan} lacks {', '.join(devices[:3])}{more}"
