"""Reading recorded latencies: columns, units and impossible values, each counted and named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hdapbench.errors import FleetError
from hdapbench.spec import RecordedFleetSpec, did_you_mean

if TYPE_CHECKING:
    import polars as pl

Unit = Literal["s", "ms", "us", "ns"]
MS_PER_UNIT: dict[Unit, float] = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
PLAUSIBLE_MS = (0.5, 10_000.0)
"""Medians of a whole file outside of this are taken for a wrong unit, unless the spec states the unit.

A file of seconds in a column of milliseconds is noticed up to half a second; a real median below half a millisecond is
asked for once.
"""
_LATENCY_COLUMNS: dict[str, Unit | None] = {
    "latency_ms": "ms",
    "latency_s": "s",
    "latency_us": "us",
    "latency_ns": "ns",
    "latency": None,
}
SAMPLE_COLUMN = "sample"


@dataclass(frozen=True)
class RowCounts:
    """What stands in a file of recordings, and what is wrong with it, in rows."""

    rows: int
    missing: int
    not_finite: int
    not_positive: int
    duplicates: int

    @property
    def wrong(self) -> dict[str, int]:
        """The problems that occur, by name."""
        named = {
            "missing value": self.missing,
            "latency that is not finite": self.not_finite,
            "latency that is zero or negative": self.not_positive,
            "repeated (device, plan, sample)": self.duplicates,
        }
        return {name: count for name, count in named.items() if count}

    @property
    def listed(self) -> str:
        """The problems that occur, each with its count."""
        return "; ".join(f"{name}: {count:,} rows" for name, count in self.wrong.items())


def scan(path: Path) -> pl.LazyFrame:
    """Rows of a CSV, TSV or Parquet file, not read yet; `FleetError` when it cannot be."""
    import polars as pl

    if not path.is_file():
        raise FleetError(f"there is no file '{path}' of recorded latencies")
    try:
        if path.suffix in (".parquet", ".pq"):
            frame = pl.scan_parquet(path)
        elif path.suffix in (".csv", ".tsv"):
            frame = pl.scan_csv(path, separator="\t" if path.suffix == ".tsv" else ",", infer_schema_length=10_000)
        else:
            raise FleetError(f"'{path}': recorded fleets are .csv, .tsv or .parquet files")
        frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise FleetError(f"'{path}' cannot be read: {' '.join(str(error).split())[:200]}") from None
    return frame


def collected(frame: pl.LazyFrame) -> pl.DataFrame:
    """The rows, read in chunks; `FleetError` when a value does not fit its column."""
    import polars as pl

    try:
        return frame.collect(engine="streaming")
    except pl.exceptions.PolarsError as error:
        raise FleetError(f"the recorded latencies cannot be read: {' '.join(str(error).split())[:200]}") from None


def require_column(frame: pl.LazyFrame, column: str, path: Path) -> None:
    """Raise `FleetError` unless there is such a column."""
    names = frame.collect_schema().names()
    if column not in names:
        raise FleetError(f"{path}: there is no column '{column}'{did_you_mean(column, names)}")


def latency_column(frame: pl.LazyFrame, spec: RecordedFleetSpec, path: Path) -> tuple[str, Unit | None]:
    """Name of the latency column, and its unit as far as the name tells; `FleetError` when a column is missing."""
    names = frame.collect_schema().names()
    column = spec.latency_column
    if column is None:
        column = next((name for name in _LATENCY_COLUMNS if name in names), None)
        if column is None:
            raise FleetError(
                f"{path}: there is no column of latencies; call it latency_ms, or name it with latency_column. "
                f"Columns: {', '.join(names)}"
            )
    for needed in (spec.device_column, spec.plan_column, column):
        require_column(frame, needed, path)
    ending = column.rsplit("_", 1)[-1]
    return column, ending if ending in MS_PER_UNIT else None


def tidy_rows(frame: pl.LazyFrame, spec: RecordedFleetSpec, column: str) -> pl.LazyFrame:
    """The rows as device, plan, latency and, where it is there, sample; text that is no number becomes null."""
    import polars as pl

    picked = [
        pl.col(spec.device_column).cast(pl.String).alias("device"),
        pl.col(spec.plan_column).cast(pl.String).alias("plan"),
        pl.col(column).cast(pl.Float64, strict=False).alias("latency"),
    ]
    if SAMPLE_COLUMN in frame.collect_schema().names():
        picked.append(pl.col(SAMPLE_COLUMN))
    return frame.select(picked)


def count_problems(rows: pl.LazyFrame) -> RowCounts:
    """Rows in all, and those with each kind of problem."""
    import polars as pl

    latency = pl.col("latency")
    complete = pl.all_horizontal(pl.all().is_not_null())
    asked = [
        pl.len().alias("rows"),
        (~complete).sum().alias("missing"),
        (latency.is_not_null() & ~latency.is_finite()).sum().alias("not_finite"),
        (latency.is_finite() & (latency <= 0)).sum().alias("not_positive"),
    ]
    found = collected(rows.select(asked)).row(0, named=True)
    duplicates = 0
    if SAMPLE_COLUMN in rows.collect_schema().names():
        named = rows.filter(complete)
        distinct = collected(named.select(pl.struct("device", "plan", SAMPLE_COLUMN).n_unique())).item()
        duplicates = int(found["rows"]) - int(found["missing"]) - int(distinct)
    return RowCounts(**{name: int(value) for name, value in found.items()}, duplicates=duplicates)


def checked_unit(medians: pl.DataFrame, told: Unit | None, spec: RecordedFleetSpec, column: str, path: Path) -> Unit:
    """The unit, when it is known and plausible.

    A unit that the spec states is taken as it is, unless the column's name tells another that fits the values as well;
    one that only the name tells, or nothing, is doubted when the file's median is no plausible latency.

    Parameters
    ----------
    told
        What the column's name tells.

    Raises
    ------
    FleetError
        When the unit is in doubt, or the spec and the column's name disagree.
    """
    typical = float(medians["latency"].median() or 0.0)  # type: ignore[arg-type]
    low, high = PLAUSIBLE_MS
    fitting = [name for name, factor in MS_PER_UNIT.items() if low <= typical * factor <= high]
    stated = spec.unit
    if stated is not None:
        if told is not None and stated != told and (told in fitting or stated not in fitting):
            raise FleetError(
                f"{path}: the column '{column}' says {told}, the spec says unit: {stated}; make them agree"
            )
        return stated
    if told is not None and told in fitting:
        return told
    guess = f"; they look like {' or '.join(fitting)}" if fitting else ""
    said = f"the column '{column}' says {told}, but" if told else f"the column '{column}' does not say its unit;"
    asked = fitting[0] if fitting else "ms"
    raise FleetError(
        f"{path}: {said} the median is {typical:g}{guess}. State it in the fleet's spec, such as unit: {asked}, "
        f"or on the command line: --set unit={asked}"
    )
