"""Reading recorded latencies: columns, units and impossible values, each counted and named."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hdapbench.errors import FleetError
from hdapbench.fleet.damaged import table_errors
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
PARQUET = (".parquet", ".pq")
FREE_ROWS = 1_000_000
"""Rows of a Parquet file of any size; more need a byte each: equal values are packed into nothing, and fill memory."""


MISSING, NO_NUMBER, NOT_FINITE, NOT_POSITIVE, REPEATED = (
    "missing value",
    "latency that is no number",
    "latency that is not finite",
    "latency that is zero or negative",
    "repeated (device, plan, sample)",
)


@dataclass(frozen=True)
class RowCounts:
    """What stands in a file of recordings, and what is wrong with it.

    Attributes
    ----------
    rows
        Rows in all.
    wrong
        Problem -> rows that have it; problems that do not occur are left out.
    examples
        Problem -> the first row that has it: its line, device, plan and what stands there.
    """

    rows: int
    wrong: dict[str, int]
    examples: dict[str, str]

    @property
    def listed(self) -> str:
        """The problems that occur, each with its count."""
        return "; ".join(f"{name}: {count:,} row{'s' * (count != 1)}" for name, count in self.wrong.items())

    @property
    def located(self) -> str:
        """The problems that occur, each with its count and its first row."""
        return "; ".join(
            f"{name}: {count:,} row{'s' * (count != 1)}{', first ' * (count != 1) or ', '}{self.examples[name]}"
            for name, count in self.wrong.items()
        )


def scan(path: Path) -> pl.LazyFrame:
    """Rows of a CSV, TSV or Parquet file, not read yet; `FleetError` when it cannot be.

    Columns of text files are text: names keep their zeros, and a number late in the file is read like the first.
    """
    import polars as pl

    if not path.is_file():
        raise FleetError(f"there is no file '{path}' of recorded latencies")
    if path.suffix in PARQUET:
        with reading(path):
            frame = pl.scan_parquet(path)
            frame.collect_schema()
            n_rows = int(frame.select(pl.len()).collect().item())
        n_bytes = path.stat().st_size
        if n_rows > max(FREE_ROWS, n_bytes):
            raise FleetError(
                f"'{path}' holds {n_rows:,} rows in {n_bytes:,} bytes; measured latencies take more than a byte each"
            )
    elif path.suffix in (".csv", ".tsv"):
        with reading(path):
            frame = pl.scan_csv(path, separator=_separator(path), infer_schema=False)
            frame.collect_schema()
    else:
        raise FleetError(f"'{path}': recorded fleets are .csv, .tsv or .parquet files")
    return frame


def collected(frame: pl.LazyFrame, path: Path) -> pl.DataFrame:
    """The rows of a file, read in chunks; `FleetError` when they cannot be read."""
    with reading(path):
        return frame.collect(engine="streaming")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever the reader raises on a damaged file, its panics included, is a `FleetError` that names the file."""
    try:
        yield
    except table_errors() as error:
        where = _uneven_row(path) if path.suffix not in PARQUET else None
        reason = where or " ".join(str(error).split())[:200]
        raise FleetError(f"'{path}' cannot be read: {reason}") from None


def _separator(path: Path) -> str:
    """What separates the columns of a text file's first line."""
    if path.suffix == ".tsv":
        return "\t"
    with path.open(errors="replace") as file:
        head = file.readline(1 << 16)
    return "," if "," in head else max(";\t", key=head.count) if set(head) & set(";\t") else ","


def _uneven_row(path: Path) -> str | None:
    """The first row of a text file that has more values than there are columns, in words; None where none has."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, delimiter=_separator(path))
            head = next(rows, [])
            for row in rows:
                if len(row) > len(head):
                    text = ", ".join(row)[:80]
                    return f"line {rows.line_num} has {len(row)} values for {len(head)} columns: {text}"
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        return str(error)
    return None


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
    """The rows as line, device, plan, written, latency and, where it is there, sample.

    ``written`` is the latency as text, ``latency`` its value: null for text that is no number.
    """
    import polars as pl

    written = pl.col(column).cast(pl.String).str.strip_chars()
    picked = [
        pl.col(spec.device_column).cast(pl.String).alias("device"),
        pl.col(spec.plan_column).cast(pl.String).alias("plan"),
        pl.when(written != "").then(written).alias("written"),
        written.cast(pl.Float64, strict=False).alias("latency"),
    ]
    if SAMPLE_COLUMN in frame.collect_schema().names():
        picked.append(pl.col(SAMPLE_COLUMN).cast(pl.String))
    numbered = frame.with_row_index("line", offset=2).select("line", *picked)  # line 1 holds the names of the columns
    return numbered.filter(pl.any_horizontal(pl.exclude("line").is_not_null()))  # an empty line is no row


def usable_rows(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows of `tidy_rows` without those that `count_problems` counts."""
    import polars as pl

    usable = rows.filter(pl.col("latency").is_finite() & (pl.col("latency") > 0)).drop_nulls()
    if SAMPLE_COLUMN in rows.collect_schema().names():
        usable = usable.unique(["device", "plan", SAMPLE_COLUMN], keep="first", maintain_order=True)
    return usable.drop("line", "written")


def count_problems(rows: pl.LazyFrame, path: Path) -> RowCounts:
    """Rows of `tidy_rows` in all, and those with each kind of problem."""
    import polars as pl

    names = [name for name in rows.collect_schema().names() if name not in ("line", "latency")]
    latency, complete = pl.col("latency"), pl.all_horizontal(pl.col(names).is_not_null())
    problems = {
        MISSING: ~complete,
        NO_NUMBER: complete & latency.is_null(),
        NOT_FINITE: complete & ~latency.is_finite(),
        NOT_POSITIVE: complete & latency.is_finite() & (latency <= 0),
    }
    counts = [problem.sum().alias(name) for name, problem in problems.items()]
    found = collected(rows.select(pl.len().alias("rows"), *counts), path).row(0, named=True)
    n_rows = int(found.pop("rows"))
    wrong = {name: int(count) for name, count in found.items() if count}
    examples = {name: _first(rows.filter(problems[name]), path) for name in wrong}
    if SAMPLE_COLUMN in names:
        key = ["device", "plan", SAMPLE_COLUMN]
        named = rows.filter(complete)
        distinct = collected(named.select(pl.struct(key).n_unique()), path).item()
        repeats = n_rows - wrong.get(MISSING, 0) - int(distinct)
        if repeats:
            wrong[REPEATED] = repeats
            examples[REPEATED] = _first(named.filter(pl.struct(key).is_first_distinct().not_()), path)
    return RowCounts(n_rows, wrong, examples)


def _first(rows: pl.LazyFrame, path: Path) -> str:
    """The first of some rows of `tidy_rows`: its line, device, plan and latency as written."""
    row = collected(rows.sort("line").head(1), path).row(0, named=True)
    shown = {"device": row["device"], "plan": row["plan"], "latency": row["written"]}
    told = ", ".join(f"{name} {str(value)[:40]!r}" for name, value in shown.items() if value is not None)
    place = f"row {row['line'] - 1:,}" if path.suffix in PARQUET else f"line {row['line']:,}"
    return place + (f" ({told})" if told else "")


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
