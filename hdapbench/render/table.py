"""What a board's cells and sentences say, shared by markdown, terminal and page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, log10

from hdapbench.leaderboard.bits import BitCosts
from hdapbench.leaderboard.board import EqualAccuracy, Leaderboard, Leads, Row, Section
from hdapbench.leaderboard.statistics import Interval
from hdapbench.spec import parse_target

ABSENT = "-"


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
    stored = [Column("stored (kB)", _stored)] if any(stored_kb(row) for row in section.rows) else []
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


def _stored(row: Row) -> str:
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
        _stored(row),
        significant(bits.weight_bytes / 1000),
        share(row.accuracy),
        *(ABSENT if cycles is None else significant(cycles / 1000) for cycles in (bits.mpic_cycles, bits.ne16_cycles)),
        significant(row.latency_ms.value),
    )


def lead_cells(row: EqualAccuracy, cost: str) -> tuple[str, ...]:
    """Cells of the table of equal-accuracy leads, as in `LEADS`."""
    lead = lead_of(row, cost)
    return row.label, lead_words(lead, cost), f"{lead.low:+.1%} to {lead.high:+.1%}", _span(row), str(row.n_targets)


def lead_of(row: EqualAccuracy, cost: str) -> Interval:
    """Gain in speed at equal accuracy, or share of the reference's bytes that is saved; negative is a loss."""
    if cost == "latency":
        return row.lead
    return Interval(*(1 - 1 / (1 + end) for end in (row.lead.value, row.lead.low, row.lead.high)))


def _span(row: EqualAccuracy) -> str:
    low, high = (f"{max(accuracy, 0.0):.1%}" for accuracy in row.accuracies)
    return f"{high if low == high else f'{low} to {high}'}{'' if row.overlaps else ' (no overlap)'}"


def lead_words(lead: Interval, cost: str) -> str:
    """``31.2% faster`` or ``4.1% slower``; smaller and larger where bytes are compared."""
    less, more = ("faster", "slower") if cost == "latency" else ("smaller", "larger")
    return f"{abs(lead.value):.1%} {less if lead.value >= 0 else more}"


def leads_sentence(leads: Leads) -> str:
    """Which method leads at equal accuracy, by how much, and how sure that is."""
    best = leads.rows[0]
    lead = lead_of(best, leads.cost)
    low, high = (f"{max(accuracy, 0.0):.1%}" for accuracy in best.accuracies)
    span = f" of {high}" if low == high else f", averaged over {low} to {high}"
    shown = "" if lead.low > 0 else ", which is not shown to be a lead"
    return (
        f"Against {leads.reference} at equal accuracy{span}: **{best.label}** is "
        f"{lead_words(lead, leads.cost)} ({lead.low:+.1%} to {lead.high:+.1%}){shown}."
    )


def compared(row: Row, *, by_accuracy: bool) -> str:
    """A row against the first one: times its latency, or points behind its accuracy, with the interval."""
    if by_accuracy:
        return ABSENT if row.behind is None else points(row.behind)
    if row.slower is None:
        return ABSENT if row.behind is None else "same widths"
    low, high = 1 + row.slower.low, 1 + row.slower.high
    return f"{1 + row.slower.value:.3f} ({low:.2f}-{high:.2f})"


def share(value: Interval) -> str:
    """A share as per cent, with its interval: ``98.2 (96.4-99.1)``; alone where nothing is known of it."""
    if (value.low, value.high) == (0.0, 1.0):
        return f"{value.value * 100:.2f}"
    decimals = 1 if value.high - value.low > 0.01 else 2
    ends = f"{value.low * 100:.{decimals}f}-{value.high * 100:.{decimals}f}"
    return f"{value.value * 100:.{decimals}f} ({ends})"


def points(value: Interval | None) -> str:
    """A difference of accuracies in points, with its sign; a star where its interval leaves out zero."""
    if value is None:
        return ABSENT
    return f"{value.value * 100:+z.2f}" + ("*" if value.low > 0 or value.high < 0 else "")


def relative(value: Interval) -> float:
    """Half the length of an interval, as share of its value."""
    return (value.high - value.low) / 2 / value.value


def significant(number: float) -> str:
    """Four significant digits, zeros included, without an exponent; ``number`` is positive."""
    rounded = float(f"{number:.4g}")
    return f"{rounded:,.{max(0, 3 - floor(log10(rounded)))}f}"


def one_line(text: str) -> str:
    """Text without line breaks."""
    return " ".join(text.split())


def _channels(row: Row) -> str:
    channels = {} if row.bits is None else row.bits.channels
    return ", ".join(f"{width}: {n:g}" if n == int(n) else f"{width}: {n:.1f}" for width, n in channels.items())


CHANNELS = [
    Column("method", lambda row: row.label),
    Column("bits: channels", _channels),
]
"""How many channels have how many bits."""


LIMITED = {
    "flops": "FLOPs",
    "size": "stored bytes",
    "latency": "average clustered latency",
    "ram": "RAM",
    "flash": "flash",
}
"""What targets limit, in words; others are processors."""


def section_title(board: Leaderboard, section: Section) -> str:
    """Target and fleet, and how latency came about."""
    target = parse_target(section.target)
    if target.kinds != {"flops"}:
        limits = " and ".join(
            f"{LIMITED.get(p.kind, f'{p.kind.upper()} cycles')} at most {p.text}" for p in target.parts
        )
        return f"{limits}, fleet {section.fleet} ({latency_origin(board, section)})"
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


def rule_words(section: Section) -> str:
    """What a row needs to be ranked: ``within 1 point of the most accurate (hdap, 98.9%)``."""
    rule = section.rule
    if rule.accuracy_within is None or rule.least_accuracy is None:
        return "of all rows"
    unit = "point" if rule.accuracy_within == 1 else "points"
    of = "the dense model" if rule.of == "dense" else f"the most accurate ({rule.of}"
    best = rule.least_accuracy + rule.accuracy_within / 100
    return f"within {rule.accuracy_within:g} {unit} of {of}{' (' if rule.of == 'dense' else ', '}{best:.1%})"


def answer(board: Leaderboard, section: Section) -> str:
    """What a ranking says: the first row by its rule, its accuracy, its lead with interval, and ties as ties."""
    if not section.ranked:
        return "No method has a complete row yet." if not section.rows else "No row is ranked."
    first, others = section.ranked[0], section.ranked[1:]
    accuracy = f"{board.metric} {interval_words(first.accuracy, scale=100, unit=' %', decimals=1)}"
    change = "" if first.change is None else f", {first.change.value * 100:+z.2f} points to dense"
    if section.by_accuracy:
        size = "" if stored_kb(first) is None else f", {_stored(first)} kB stored"
        lines = [f"Most accurate: **{first.label}**, {accuracy}{change}{size}."]
    else:
        speed = "" if first.speed_up is None else f", {interval_words(first.speed_up, unit='x', decimals=2)} dense"
        latency = significant(first.latency_ms.value)
        lines = [f"Fastest {rule_words(section)}: **{first.label}**, {latency} ms{speed}, {accuracy}{change}."]
    lines += [_lead_of_first(section, others)] if others else []
    lines += [f"{_joined(names)} chose the same widths." for names in _ties(section.rows)]
    return " ".join(lines)


def _lead_of_first(section: Section, others: Sequence[Row]) -> str:
    """By how much the first leads the next, and over how many rows that is shown."""
    compared = [(row, row.behind if section.by_accuracy else row.slower) for row in others]
    rivals = [(row, found) for row, found in compared if found is not None]
    if not rivals:
        return "All ranked rows chose the same widths."
    row, found = rivals[0]
    if section.by_accuracy:
        lead, less = Interval(-found.value, -found.high, -found.low), "less accurate"
        shown = [rival for _, rival in rivals if rival.high < 0]
    else:
        lead, less = found, "slower"
        shown = [rival for _, rival in rivals if rival.low > 0]
    by = interval_words(lead, scale=100, unit=" points" if section.by_accuracy else " %", decimals=1)
    said = f"{row.label} is next, {by} {less}"
    if len(rivals) == 1:
        return f"{said}, which is {'' if shown else 'not '}shown."
    return f"{said}; {len(shown)} of the {len(rivals)} others are shown to be {less}."


def interval_words(value: Interval, *, scale: float = 1.0, unit: str = "", decimals: int = 2) -> str:
    """``1.17x (1.15 to 1.19)``; the value alone where nothing is known of its interval."""
    said = f"{value.value * scale:z.{decimals}f}{unit}"
    if scale == 100 and (value.low, value.high) == (0.0, 1.0):
        return said
    return f"{said} ({value.low * scale:z.{decimals}f} to {value.high * scale:z.{decimals}f})"


def _ties(rows: Sequence[Row]) -> list[list[str]]:
    """Labels of rows that chose the same widths, each group once."""
    groups = {tuple(sorted((row.label, *row.same_as))) for row in rows if row.same_as}
    return [list(group) for group in sorted(groups)]


def _joined(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def legend(board: Leaderboard) -> list[str]:
    """What the columns and marks mean that this board uses."""
    rows = [row for section in board.sections for row in section.rows]
    latency = any(not section.by_accuracy for section in board.sections)
    said = [
        (
            "Average clustered latency (ms): the average over all devices, estimated from the median latencies on the "
            "clusters' representatives and every device's fingerprint. Rows of a seed share session and devices."
        )
    ]
    if latency and any(row.slower is not None for row in rows):
        said.append(
            "`x first`: latency over that of the first row, with a 95 % interval that holds for the whole table "
            "(two-way layout of methods and seeds, Tukey). An interval that contains 1.00 shows no difference."
        )
    if board.n_images is not None:
        said.append(f"{board.metric}: 95 % interval over seeds and the {board.n_images:,} test images together.")
    if any(row.change is not None for row in rows):
        said.append(
            "`change`: points to the dense model on the same images, which is not fine-tuned further; `*` where the "
            "difference is shown (95 %, whole table)."
        )
    if any(section.unranked for section in board.sections):
        said.append(
            "Rows below a ranking lose more accuracy than its rule allows (`ranking` in the spec). They are not ranked."
        )
    if board.leads:
        said.append(
            "At equal accuracy: mean difference of log latency (or bytes stored) between two methods' fronts over "
            "all targets, the dense model among them, over the accuracies that both reach; bootstrap over seeds and "
            "test images."
        )
    if any(not row.overlaps for leads in board.leads for row in leads.rows):
        said.append(
            "`no overlap`: one front is more accurate throughout. Its fastest point is compared with the other's most "
            "accurate one."
        )
    said.append(
        "Latency is the geometric mean over seeds. `seeds`: half-width of its 95 % interval over seeds; `fleet`: over "
        "devices that were not measured. p95: 95 % quantile over all devices in ms, each predicted from the measured "
        "ones by its fingerprint. worst: the slowest representative in ms."
    )
    said.append(
        "All methods share one fine-tuning recipe, test split and latency protocol. Device queries, accuracy "
        "evaluations and training epochs are what a method used up before it proposed its plan."
    )
    if any(row.is_partial for row in rows):
        said.append("`~` not every seed has numbers: the row is compared on those it has.")
    if any(row.bits is not None for row in rows):
        said.append(
            "Stored: what a device keeps of a model: weights packed at their bits, biases, multipliers and shifts. "
            "`weights` is their part of it, `file` has a header besides. Rows with bits have 8-bit activations unless "
            "a parameter says otherwise; accuracy is that of the fake-quantised network, `integer` that of the "
            "integer-only executor, `differing` the share of test inputs on which the two name different classes. "
            "Latency is that of the pruned widths in the fleet's arithmetic."
        )
    return said


def about(board: Leaderboard) -> str:
    """What a board compares: ``resnet20 on digits · 10 methods · 2 targets ...``."""
    spec, n_fleets = board.spec, len({section.fleet for section in board.sections})
    targets = list(dict.fromkeys(section.target for section in board.sections))
    parts = [
        f"{spec['model']['name']} on {spec['data']['name']}",
        counted(len({row.label for section in board.sections for row in section.rows}), "method"),
        f"{counted(len(targets), 'target')}",
        counted(n_fleets, "fleet"),
        counted(len(spec["seeds"]), "seed"),
        f"{board.n_finished:,} of {board.n_trials:,} trials have ended",
    ]
    return " · ".join(parts)


def counted(n: int, noun: str) -> str:
    """``1 seed`` or ``2 seeds``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
