"""RecordedFleet: devices whose latencies were measured elsewhere and stand in a CSV or Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.errors import FleetError
from hdapbench.files import expand_path
from hdapbench.fleet.base import DeviceLostError, Fleet, LatencySource, Workloads
from hdapbench.fleet.fingerprint import Fingerprint
from hdapbench.fleet.recorded.reading import (
    MS_PER_UNIT,
    checked_unit,
    collected,
    count_problems,
    latency_column,
    require_column,
    scan,
    tidy_rows,
    usable_rows,
)
from hdapbench.spec import RecordedFleetSpec, did_you_mean

if TYPE_CHECKING:
    import polars as pl


class RecordedFleet(Fleet):
    """Devices of a file with one row per sample, read lazily and checked.

    The columns are device, plan and latency; optionally ``sample``, which numbers the repeats, and a device's weight.
    Probes are the plans that every device has. Times can be had of recorded plans alone.

    Parameters
    ----------
    spec
        Path, columns, unit and what to do with impossible rows.

    Raises
    ------
    FleetError
        When the file cannot be read, lacks a column, has impossible rows (each kind counted), or its unit is in doubt.
    """

    source: LatencySource = "measured"

    def __init__(self, spec: RecordedFleetSpec) -> None:
        import polars as pl

        self.spec = spec
        self.name = spec.name
        self.path = expand_path(spec.path)
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
        self.weights = self._weights(frame, spec)

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
        """Fingerprint of the probes: the plans that the spec names, or all that every device has.

        Raises
        ------
        FleetError
            When a probe is unknown or some devices lack it, or no plan was measured on every device.
        """
        probes = self.spec.probes or self.complete_plans
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
        )

    def sample(self, workloads: Workloads, devices: Integers, *, runs: int, seed: int) -> Floats:
        """Recorded samples in ms, shape (n_picked_devices, n_workloads, runs).

        Of more samples than ``runs`` a random choice without repeats; fewer are filled up with their median, which
        stays where it is.

        Raises
        ------
        DeviceLostError
            When a plan was not recorded on one of the devices.
        """
        found = self._samples(workloads.ids)
        samples = np.empty((len(devices), len(workloads), runs))
        for column, plan in enumerate(workloads.ids):
            for row, device in enumerate(devices.tolist()):
                values = found[plan][device]
                if not len(values):
                    message = f"{self.path}: plan '{plan}' was not measured on device {self.device_ids[device]}"
                    raise DeviceLostError(device, message)
                if len(values) > runs:
                    values = np.random.default_rng([seed, device, column]).permutation(values)[:runs]
                samples[row, column] = np.median(values)
                samples[row, column, : len(values)] = values
        return samples

    def most_samples(self, plans: Sequence[str]) -> int:
        """Samples of the cell that has most, of some plans: with as many ``runs`` every sample counts."""
        return max(int(self._by_plan[(self._known(plan),)]["n"].max()) for plan in plans)  # type: ignore[arg-type]

    def _samples(self, plans: Sequence[str]) -> dict[str, list[Floats]]:
        """Plan -> its sorted samples in ms on every device, each of shape (n_samples,); none where there are none."""
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

    def _weights(self, frame: pl.LazyFrame, spec: RecordedFleetSpec) -> Floats | None:
        """Shares of the devices; those of dropped ones go to the others in proportion."""
        import polars as pl

        if spec.weight_column is None:
            return None
        require_column(frame, spec.weight_column, self.path)
        written = pl.col(spec.weight_column).cast(pl.String).str.strip_chars()
        found = self._collected(
            frame.select(
                pl.col(spec.device_column).cast(pl.String),
                written.alias("written"),
                written.cast(pl.Float64, strict=False).alias(spec.weight_column),
            )
            .group_by(spec.device_column)
            .agg(
                pl.col(spec.weight_column).first().alias("first"),
                pl.col(spec.weight_column).n_unique().alias("n"),
                pl.col("written").filter(pl.col(spec.weight_column).is_null()).drop_nulls().first().alias("odd"),
            )
            .drop_nulls(spec.device_column)
            .sort(spec.device_column)
        )
        odd = found.drop_nulls("odd")
        if not odd.is_empty():
            raise FleetError(
                f"{self.path}: the weight of device {odd[spec.device_column][0]} is no number: {odd['odd'][0][:40]!r}"
            )
        several = found.filter(pl.col("n") > 1)
        if not several.is_empty():
            raise FleetError(
                f"{self.path}: {len(several)} devices have more than one weight, "
                f"such as {several[spec.device_column][0]}"
            )
        weights = found["first"].to_numpy().astype(float)
        if not (np.isfinite(weights) & (weights > 0)).all():
            raise FleetError(f"{self.path}: weights must be finite and positive; the least is {np.min(weights)}")
        total = float(weights.sum())
        if abs(total - 1) > 1e-3 and abs(total - len(weights)) > 1e-3 * len(weights):
            raise FleetError(
                f"{self.path}: the devices' weights sum to {total:g}; write shares that sum to 1, "
                f"or weights that average 1 (sum {len(weights)})"
            )
        kept = weights[found[spec.device_column].is_in(self.device_ids).to_numpy()]
        return np.asarray(kept / kept.sum())


def _some(plan: str, devices: Sequence[str]) -> str:
    """A plan, and the devices that lack it, at most three by name."""
    more = f" and {len(devices) - 3} more" if len(devices) > 3 else ""
    return f"{plan} lacks {', '.join(devices[:3])}{more}"
