"""Columns of a board's tables and what their cells say, shared by markdown, terminal and page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hdapbench.leaderboard.bits import BitCosts
from hdapbench.leaderboard.board import EqualAccuracy, Leaderboard, Row, Section
from hdapbench.render.cells import ABSENT, lead_of, lead_words, points, relative, share, significant


@dataclass(frozen=True)
class Column:
    """A column of a table: its title, and the cell of a row."""

    title: str
    cell: Callable[[Row], str]


def ranking_columns(board: Leaderboard, section: Section, *, is_narrow: bool = False) -> list[Column]:
    """Columns of a ranking; a narrow one leaves out what follows from the others.

    Rows with bit-widths say what they store. Latencies that nobody chose and that are all the dense model's are left
    out.
    """
    first = "accuracy behind" if section.by_accuracy else "x first (95 %)"
    stored = [Column("stored (kB)", stored_cell)] if any(stored_kb(row) for row in section.rows) else []
    latency = [
        Column("ms", lambda row: significant(row.latency_ms.value)),
        Column("speed-up", lambda row: ABSENT if row.speed_up is None else f"{row.speed_up.value:.2f}x"),
    ]
    columns = [
        Column("#", lambda row: ABSENT if row.rank is None else str(row.rank)),
        Column("method", lambda row: row.label + ("~" if row.is_partial else "")),
        *stored,
        *(latency if not section.by_accuracy or any(map(_differs_in_latency, section.rows)) else ()),
        Column(first, lambda row: compared(row, by_accuracy=section.by_accuracy)),
        Column(f"{board.metric} (%)", lambda row: share(row.accuracy)),
        Column("change", lambda row: points(row.change)),
    ]
    if board.metric != "accuracy":
        columns.append(Column("mAP50", lambda row: ABSENT if row.map50 is None else f"{row.map50 * 100:.1f}"))
    return [column for column in columns if column.title not in {"speed-up", "change"}] if is_narrow else columns


def stored_kb(row: Row) -> float | None:
    """What a device stores of a quantised model, in kB; None where that is not known."""
    stored = None if row.bits is None else row.bits.stored_bytes
    return None if stored is None else stored / 1000


def stored_cell(row: Row) -> str:
    """Bytes stored, in kB, as text."""
    found = stored_kb(row)
    return ABSENT if found is None else significant(found)


def _differs_in_latency(row: Row) -> bool:
    """Whether a row's speed-up is anything else than 1.00x."""
    return row.speed_up is None or f"{row.speed_up.value:.2f}" != "1.00"


def unranked_columns(board: Leaderboard) -> list[Column]:
    """Columns of the rows that lose too much accuracy to be ranked."""
    return [
        Column("method", lambda row: row.label + ("~" if row.is_partial else "")),
        Column("ms", lambda row: significant(row.latency_ms.value)),
        Column("speed-up", lambda row: ABSENT if row.speed_up is None else f"{row.speed_up.value:.2f}x"),
        Column(f"{board.metric} (%)", lambda row: share(row.accuracy)),
        Column("change", lambda row: points(row.change)),
        Column("misses by", lambda row: ABSENT if row.missed_by is None else f"{row.missed_by * 100:.2f}"),
    ]


FLEET = [
    Column("method", lambda row: row.label),
    Column("M MACs", lambda row: f"{row.flops / 1e6:,.2f}"),
    Column("of target", lambda row: ABSENT if row.flops_share is None else f"{row.flops_share:.3f}"),
    Column("params (k)", lambda row: f"{row.params / 1e3:,.1f}"),
    Column("seeds", lambda row: f"±{relative(row.latency_ms):.2%}"),
    Column("fleet", lambda row: f"±{row.fleet_half_width:.1%}"),
    Column("p95", lambda row: significant(row.p95_ms)),
    Column("worst", lambda row: significant(row.worst_cluster_ms)),
]
"""Columns on size, and on the latency over seeds and devices."""

COSTS = [
    Column("method", lambda row: row.label),
    Column("device queries", lambda row: f"{row.device_queries:,.0f}"),
    Column("accuracy evals", lambda row: f"{row.accuracy_evals:,.1f}".removesuffix(".0")),
    Column("train epochs", lambda row: f"{row.train_epochs:.2f}"),
    Column("size (KiB)", lambda row: f"{row.size_bytes / 1024:,.1f}"),
    Column("seeds", lambda row: f"{row.n_seeds} of {row.n_planned}" if row.is_partial else str(row.n_seeds)),
]
"""Columns on what deciding took."""


def _bits(value: Callable[[BitCosts], float | None], form: str = "") -> Callable[[Row], str]:
    """Cell of a row's bit-widths: in thousands, four digits of it, or in a form of its own."""

    def cell(row: Row) -> str:
        found = None if row.bits is None else value(row.bits)
        if found is None:
            return ABSENT
        return format(found, form) if form else significant(found / 1000)

    return cell


def _of_target(row: Row) -> str:
    """Share of the limit, or of each of several, that is used."""
    if row.target_shares:
        return ", ".join(f"{kind} {used:.3f}" for kind, used in row.target_shares.items())
    return ABSENT if row.target_share is None else f"{row.target_share:.3f}"


BITS = [
    Column("method", lambda row: row.label),
    Column("stored (kB)", _bits(lambda bits: bits.stored_bytes)),
    Column("weights (kB)", _bits(lambda bits: bits.weight_bytes)),
    Column("of target", _of_target),
    Column("file (kB)", _bits(lambda bits: bits.packed_bytes)),
    Column("MPIC (k)", _bits(lambda bits: bits.mpic_cycles)),
    Column("NE16 (k)", _bits(lambda bits: bits.ne16_cycles)),
    Column("integer (%)", _bits(lambda bits: bits.integer_accuracy * 100, ".2f")),
    Column("differing (%)", _bits(lambda bits: bits.difference_share * 100, ".3f")),
]
"""Columns on bit-widths."""

ON_CHIP = [
    Column("flash (kB)", _bits(lambda bits: bits.flash_bytes)),
    Column("RAM (kB)", _bits(lambda bits: bits.ram_bytes)),
]
"""Columns on generated C code."""


def bit_columns(rows: Sequence[Row]) -> list[Column]:
    """Columns on the bit-widths of rows; on C code only where it was counted."""
    counted = any(row.bits is not None and row.bits.ram_bytes is not None for row in rows)
    return [*BITS, *ON_CHIP] if counted else BITS


FRONT = ("front", "method", "target", "stored (kB)", "weights (kB)", "accuracy (%)", "MPIC (k)", "NE16 (k)", "ms")

LEADS = ("method", "at equal accuracy", "95 %", "accuracies (%)", "targets")


def front_cells(target: str, row: Row, *, leads: bool) -> tuple[str, ...]:
    """Cells of the table of all quantised rows, as in `FRONT`."""
    bits = row.bits
    assert bits is not None  # noqa: S101 - the caller chose such rows
    return (
        "*" if leads else "",
        row.label,
        target,
        stored_cell(row),
        significant(bits.weight_bytes / 1000),
        share(row.accuracy),
        *(ABSENT if cycles is None else significant(cycles / 1000) for cycles in (bits.mpic_cycles, bits.ne16_cycles)),
        significant(row.latency_ms.value),
    )


def lead_cells(row: EqualAccuracy, cost: str) -> tuple[str, ...]:
    """Cells of the table of equal-accuracy leads, as in `LEADS`."""
    lead = lead_of(row, cost)
    return row.label, lead_words(lead, cost), f"{lead.low:+.1%} to {lead.high:+.1%}", _span(row), str(row.n_targets)


def _span(row: EqualAccuracy) -> str:
    low, high = (f"{max(accuracy, 0.0):.1%}" for accuracy in row.accuracies)
    return f"{high if low == high else f'{low} to {high}'}{'' if row.overlaps else ' (no overlap)'}"


def compared(row: Row, *, by_accuracy: bool) -> str:
    """A row against the first one: times its latency, or points behind its accuracy, with the interval."""
    if by_accuracy:
        return ABSENT if row.behind is None else points(row.behind)
    if row.slower is None:
        return ABSENT if row.behind is None else "same widths"
    low, high = 1 + row.slower.low, 1 + row.slower.high
    return f"{1 + row.slower.value:.3f} ({low:.2f}-{high:.2f})"


def _channels(row: Row) -> str:
    channels = {} if row.bits is None else row.bits.channels
    return ", ".join(f"{width}: {n:g}" if n == int(n) else f"{width}: {n:.1f}" for width, n in channels.items())


CHANNELS = [
    Column("method", lambda row: row.label),
    Column("bits: channels", _channels),
]
"""How many channels have how many bits."""
