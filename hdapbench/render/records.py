"""Leaderboard -> flat records: one per row and section with all numbers, for data frames and spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from math import isfinite
from typing import Any

from hdapbench.errors import printable
from hdapbench.leaderboard.board import Gap, Leaderboard, Row, Section
from hdapbench.leaderboard.statistics import Interval
from hdapbench.trial import DENSE

Record = dict[str, str | float | int | None]

ORDERS = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")
"""With what a cell begins that spreadsheets take for a formula, full-width signs of some languages included."""

_INTERVALS = ("latency_ms", "speed_up", "slower", "accuracy", "change", "behind")
_NUMBERS = (
    *("missed_by", "n_seeds", "n_planned", "fleet_half_width", "p95_ms", "worst_cluster_ms", "flops", "flops_share"),
    *("params", "size_bytes", "device_queries", "accuracy_evals", "train_epochs", "map50", "target_share"),
)
_BITS = (
    *("stored_bytes", "weight_bytes", "packed_bytes", "mpic_cycles", "ne16_cycles"),
    *("integer_accuracy", "difference_share", "flash_bytes", "ram_bytes"),
)

COLUMNS = (
    *("board", "fleet", "target", "latency_source", "ranked_by", "status", "reason", "rank", "label", "method", "seed"),
    "same_as",
    *(name + end for name in _INTERVALS for end in ("", "_low", "_high")),
    *_NUMBERS,
    *_BITS,
)
"""Keys of every record, in order.

``status`` is ``ranked``, ``unranked``, ``reference`` for the dense model, or how a trial without numbers ended, which
has a ``seed`` and a ``reason``. Other names are those of `hdapbench.leaderboard.board.Row`; ``_low`` and ``_high`` are
the ends of 95 % intervals. None is a number that is not there, or an end without bound.
"""

TEXT_COLUMNS = frozenset(COLUMNS[:7]) | {"label", "method", "same_as"}
WHOLE_COLUMNS = frozenset({"rank", "seed", "n_seeds", "n_planned"})
"""Columns of words and of whole numbers; the others hold any numbers."""


def records(board: Leaderboard) -> list[Record]:
    """Records of a board, section by section: the dense model, its rows in their order, and trials without numbers."""
    return [record for section in board.sections for record in _of_section(board, section)]


def render_csv(board: Leaderboard) -> str:
    """CSV of a board after RFC 4180, all its records under one header; texts that spreadsheets would execute are inert.

    Numbers have as many digits as it takes to read the same ones back.
    """
    written = io.StringIO()
    writer = csv.DictWriter(written, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({name: _inert(value) for name, value in record.items()} for record in records(board))
    return written.getvalue()


def _inert(value: str | float | None) -> str | float | None:
    """A text that no spreadsheet computes: an apostrophe comes before what begins like a formula."""
    return f"'{value}" if isinstance(value, str) and value.lstrip().startswith(ORDERS) else value


def _of_section(board: Leaderboard, section: Section) -> Iterator[Record]:
    common: dict[str, Any] = {
        "board": printable(board.name),
        "fleet": printable(section.fleet),
        "target": printable(section.target),
        "latency_source": section.source,
        "ranked_by": section.rule.by,
    }
    nothing: Record = dict.fromkeys(COLUMNS)
    if section.fleet in board.dense:
        yield nothing | common | _of_row(board.dense[section.fleet])
    for row in section.rows:
        yield nothing | common | _of_row(row)
    for gap in section.gaps:
        yield nothing | common | _of_gap(gap)


def _of_row(row: Row) -> Record:
    status = "reference" if row.method == DENSE else "unranked" if row.rank is None else "ranked"
    found: Record = {
        "status": status,
        "rank": row.rank,
        "label": printable(row.label),
        "method": printable(row.method),
        "same_as": "; ".join(map(printable, row.same_as)) or None,
    }
    intervals: dict[str, Interval | None] = {
        "latency_ms": row.latency_ms,
        "speed_up": row.speed_up,
        "slower": row.slower,
        "accuracy": row.accuracy,
        "change": row.change,
        "behind": row.behind,
    }
    for name, interval in intervals.items():
        found |= _ends(name, interval)
    found |= {name: _finite(getattr(row, name)) for name in _NUMBERS}
    if row.bits is not None:
        found |= {name: _finite(getattr(row.bits, name)) for name in _BITS}
    return found


def _ends(name: str, interval: Interval | None) -> Record:
    if interval is None:
        return {}
    is_known = name != "accuracy" or (interval.low, interval.high) != (0.0, 1.0)
    ends = {f"{name}_low": interval.low, f"{name}_high": interval.high} if is_known else {}
    return {end: _finite(value) for end, value in {name: interval.value, **ends}.items()}


def _of_gap(gap: Gap) -> Record:
    label, reason = printable(gap.label), printable(" ".join(gap.reason.split()))
    return {"status": gap.status, "reason": reason, "label": label, "method": None, "seed": gap.seed}


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None
