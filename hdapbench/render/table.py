"""What a board's cells say, shared by markdown and terminal."""

from __future__ import annotations

from math import floor, log10

from hdapbench.leaderboard.build import Leaderboard, Row, Section
from hdapbench.leaderboard.statistics import Estimate
from hdapbench.spec import parse_target

_RANKING = (
    "#",
    "method",
    "avg. clustered latency (ms)",
    "speed-up",
    "accuracy (%)",
    "drop (points)",
    "p95 (ms)",
    "worst cluster (ms)",
)
COSTS = (
    "#",
    "method",
    "FLOPs (M MACs)",
    "of target",
    "params (k)",
    "size (KiB)",
    "device queries",
    "accuracy evals",
    "train epochs",
    "seeds",
)
BITS = (
    "#",
    "method",
    "weights (kB)",
    "of target",
    "packed file (kB)",
    "MPIC (k cycles)",
    "NE16 (k cycles)",
    "bits: channels",
    "integer accuracy (%)",
    "differing (%)",
)
FRONT = (
    "front",
    "method",
    "target",
    "weights (kB)",
    "accuracy (%)",
    "MPIC (k cycles)",
    "NE16 (k cycles)",
    "avg. clustered latency (ms)",
)
NOTES = {
    "=": "latency interval overlaps that of the first row: not shown to be slower",
    "*": "on the Pareto front of accuracy and latency",
    "!": "uses less than 0.97 of the FLOPs target: it gave budget away",
    "~": "not every seed has numbers",
}
"""Marks beside a method's name, and what they mean where rows are ranked by latency."""

NOTES_BY_ACCURACY = {
    **NOTES,
    "=": "accuracy interval overlaps that of the first row: not shown to be less accurate",
    "*": "on the Pareto front of accuracy and what the target limits",
    "!": "uses less than 0.97 of the target: it gave budget away",
}
"""The same where rows are ranked by accuracy."""


def mark_meanings(board: Leaderboard) -> dict[str, str]:
    """Marks and what they mean on a board."""
    standings = {section.by_accuracy for section in board.sections}
    if standings == {True, False}:
        other = NOTES_BY_ACCURACY
        return {m: n if n == other[m] else f"{n}; under other targets: {other[m]}" for m, n in NOTES.items()}
    return NOTES_BY_ACCURACY if True in standings else NOTES


def ranking_header(board: Leaderboard) -> tuple[str, ...]:
    """Names of the ranking table's columns: accuracy under the name of the task's metric, detection with mAP50 too."""
    if board.metric == "accuracy":
        return _RANKING
    at = _RANKING.index("accuracy (%)")
    return (*_RANKING[:at], f"{board.metric} (%)", *_RANKING[at + 1 :], "mAP50 (%)")


def ranking_cells(row: Row) -> tuple[str, ...]:
    """Cells of the ranking table."""
    cells = (
        "-" if row.rank is None else str(row.rank),
        row.label + marks(row),
        interval(row.latency_ms, 1.0) + f" ±{row.fleet_half_width:.1%} fleet",
        "-" if row.speed_up is None else f"{row.speed_up:.2f}x",
        interval(row.accuracy, 100.0, decimals=2),
        "-" if row.accuracy_drop is None else f"{row.accuracy_drop * 100:+z.2f}",
        significant(row.p95_ms),
        significant(row.worst_cluster_ms),
    )
    return cells if row.map50 is None else (*cells, f"{row.map50 * 100:.2f}")


def cost_cells(row: Row) -> tuple[str, ...]:
    """Cells of the cost table."""
    return (
        "-" if row.rank is None else str(row.rank),
        row.label,
        f"{row.flops / 1e6:,.2f}",
        "-" if row.flops_share is None else f"{row.flops_share:.3f}",
        f"{row.params / 1e3:,.1f}",
        f"{row.size_bytes / 1024:,.1f}",
        f"{row.device_queries:,.0f}",
        f"{row.accuracy_evals:,.1f}".removesuffix(".0"),
        f"{row.train_epochs:.2f}",
        str(row.n_seeds) if row.n_seeds == row.n_planned else f"{row.n_seeds} of {row.n_planned}",
    )


def bit_cells(row: Row) -> tuple[str, ...]:
    """Cells of the bit-width table, for a row that has bits."""
    bits = row.bits
    assert bits is not None  # noqa: S101 - the caller chose such rows
    return (
        "-" if row.rank is None else str(row.rank),
        row.label,
        significant(bits.weight_bytes / 1000),
        "-" if row.target_share is None else f"{row.target_share:.3f}",
        significant(bits.packed_bytes / 1000),
        _kilo(bits.mpic_cycles),
        _kilo(bits.ne16_cycles),
        ", ".join(f"{width}: {n:g}" if n == int(n) else f"{width}: {n:.1f}" for width, n in bits.channels.items()),
        f"{bits.integer_accuracy * 100:.2f}",
        f"{bits.difference_share * 100:.3f}",
    )


def front_cells(target: str, row: Row, *, leads: bool) -> tuple[str, ...]:
    """Cells of the table of all quantised rows."""
    bits = row.bits
    assert bits is not None  # noqa: S101 - the caller chose such rows
    return (
        "*" if leads else "",
        row.label,
        target,
        significant(bits.weight_bytes / 1000),
        interval(row.accuracy, 100.0, decimals=2),
        _kilo(bits.mpic_cycles),
        _kilo(bits.ne16_cycles),
        significant(row.latency_ms.mean),
    )


def _kilo(cycles: float | None) -> str:
    return "-" if cycles is None else significant(cycles / 1000)


def marks(row: Row) -> str:
    """All marks of a row, in the order of `NOTES`."""
    flags = {"=": row.level_with_first, "*": row.pareto, "!": row.gave_budget_away, "~": row.n_seeds < row.n_planned}
    found = "".join(mark for mark, set_ in flags.items() if set_)
    return f" {found}" if found else ""


def interval(value: Estimate, scale: float, *, decimals: int | None = None) -> str:
    """Mean, with its 95 % half-width where there are several seeds."""

    def show(number: float) -> str:
        return significant(number * scale) if decimals is None else f"{number * scale:.{decimals}f}"

    if value.half_width is None:
        return show(value.mean)
    half_width = f"{float(f'{value.half_width * scale:.2g}'):f}".rstrip("0").rstrip(".")  # no exponent
    return f"{show(value.mean)} ±{half_width}"


def significant(number: float) -> str:
    """Four significant digits, zeros included, without an exponent; ``number`` is positive."""
    rounded = float(f"{number:.4g}")
    return f"{rounded:,.{max(0, 3 - floor(log10(rounded)))}f}"


def one_line(text: str) -> str:
    """Text without line breaks."""
    return " ".join(text.split())


def section_title(board: Leaderboard, section: Section) -> str:
    """Target and fleet, and how latency came about."""
    limited = parse_target(section.target).kind
    if limited != "flops":
        what = {"size": "weights", "latency": "average clustered latency"}.get(limited, f"{limited.upper()} cycles")
        amount = section.target.partition(" ")[0]
        return f"{what} at most {amount}, fleet {section.fleet} ({latency_origin(board, section)})"
    flops = f" = at most {section.target_flops:,} multiply-accumulates" if section.target_flops else ""
    return f"{section.target} FLOPs{flops}, fleet {section.fleet} ({latency_origin(board, section)})"


def latency_origin(board: Leaderboard, section: Section) -> str:
    """How latency came about: ``simulated: xavier_nx, mixed, ...`` or ``measured: ...``."""
    fleet = board.notes.get(section.fleet, {}).get("fleet", {})
    details = ", ".join(
        f"{value}" if key in {"sku", "scenario", "precision"} else f"{key} {value}"
        for key, value in fleet.items()
        if key != "kind"
    )
    return f"{section.source}: {details}" if details else section.source


def answer(section: Section, metric: str = "accuracy") -> str:
    """One sentence: which method is first here, by latency or by accuracy, with what numbers."""
    if not section.rows:
        return "No method has a complete row yet."
    first = section.rows[0]
    points = "" if first.accuracy_drop is None else f" ({-first.accuracy_drop * 100:+z.2f} points)"
    if section.by_accuracy:
        best, worse, competing = "Most accurate", "less accurate", first.accuracy
        size = "" if first.bits is None else f"{significant(first.bits.weight_bytes / 1000)} kB of weights, "
        said = f"{size}{metric} {interval(first.accuracy, 100.0, decimals=2)} %{points}"
    else:
        best, worse, competing = "Fastest on average", "slower", first.latency_ms
        speed = "" if first.speed_up is None else f"{first.speed_up:.2f}x the dense model's speed, "
        said = f"{significant(first.latency_ms.mean)} ms, {speed}{metric} {first.accuracy.mean:.2%}{points}"
    single = "" if competing.half_width is not None else " (one seed: no interval)"
    level = ", ".join(row.label for row in section.rows[1:] if row.level_with_first)
    beside = f" Not shown to be {worse}: {level}." if level else ""
    return f"{best}: **{first.label}**, {said}{single}.{beside}"
