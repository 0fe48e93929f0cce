"""Titles and sentences of a board, shared by markdown, terminal and page."""

from __future__ import annotations

from collections.abc import Sequence

from hdapbench.leaderboard.board import Leaderboard, Leads, Row, Section
from hdapbench.leaderboard.statistics import Interval
from hdapbench.render.cells import counted, interval_words, joined, lead_of, lead_words, significant
from hdapbench.render.table import stored_cell, stored_kb
from hdapbench.spec import parse_target


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
        size = "" if stored_kb(first) is None else f", {stored_cell(first)} kB stored"
        lines = [f"Most accurate: **{first.label}**, {accuracy}{change}{size}."]
    else:
        speed = "" if first.speed_up is None else f", {interval_words(first.speed_up, unit='x', decimals=2)} dense"
        latency = significant(first.latency_ms.value)
        lines = [f"Fastest {rule_words(section)}: **{first.label}**, {latency} ms{speed}, {accuracy}{change}."]
    lines += [_lead_of_first(section, others)] if others else []
    lines += [f"{joined(names)} chose the same widths." for names in _ties(section.rows)]
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


def _ties(rows: Sequence[Row]) -> list[list[str]]:
    """Labels of rows that chose the same widths, each group once."""
    groups = {tuple(sorted((row.label, *row.same_as))) for row in rows if row.same_as}
    return [list(group) for group in sorted(groups)]


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
