"""Why a row won or lost, in sentences: its final accuracy, the rows that it is compared with, and what is shown."""

from __future__ import annotations

from hdapbench.leaderboard.board import EqualAccuracy, Leaderboard, Leads, Row, Section
from hdapbench.leaderboard.statistics import Interval
from hdapbench.render.cells import interval_words, lead_of, lead_words, significant
from hdapbench.render.sentences import rule_words


def verdict(board: Leaderboard, section: Section, row: Row) -> list[str]:
    """Sentences on the place of one row in its section."""
    said = [_numbers(board, row)]
    if row.rank is None:
        said += _unranked(section, row)
    else:
        said += _ranked(section, row)
    if row.same_as:
        said.append(f"Chose the same widths as {', '.join(row.same_as)}.")
    if row.is_partial:
        said.append(f"{row.n_seeds} of {row.n_planned} seeds have numbers; it is compared on those.")
    return said + [_lead(found, leads.reference, leads.cost) for leads, found in _leads_of(board, section, row)]


def _numbers(board: Leaderboard, row: Row) -> str:
    speed = "" if row.speed_up is None else f", {interval_words(row.speed_up, unit='x')} dense"
    change = "" if row.change is None else f", {interval_words(row.change, scale=100, unit=' points')} to dense"
    accuracy = interval_words(row.accuracy, scale=100, unit=" %")
    return f"{significant(row.latency_ms.value)} ms{speed}; final {board.metric} {accuracy}{change}."


def _ranked(section: Section, row: Row) -> list[str]:
    first, others = section.ranked[0], len(section.ranked)
    if row is first:
        what = "Most accurate" if section.by_accuracy else "Fastest"
        if others == 1:
            return [f"{what}: the only row {rule_words(section)}."]
        rivals = [other.behind if section.by_accuracy else other.slower for other in section.ranked[1:]]
        shown = sum(found is not None and not found.low <= 0 <= found.high for found in rivals)
        return [
            f"{what} of {others} rows {rule_words(section)}; its lead is shown over {shown} of the {others - 1} others."
        ]
    found = [f"Place {row.rank} of {others}."]
    if row.slower is not None:
        found.append(_against(row.slower, first.label, ("slower", "faster"), " %"))
    if row.behind is not None:
        found.append(_against(row.behind, first.label, ("more accurate", "less accurate"), " points"))
    return found


def _against(found: Interval, label: str, words: tuple[str, str], unit: str) -> str:
    """Such as ``7.4 % (3.1 to 11.9) slower than hdap, which is shown``, as a sentence."""
    is_more = found.value >= 0
    size = found if is_more else Interval(-found.value, -found.high, -found.low)
    is_shown = found.low > 0 or found.high < 0
    sure = "which is shown" if is_shown else "which is not shown: the interval contains 0"
    return (
        f"{interval_words(size, scale=100, unit=unit, decimals=1)} {words[0 if is_more else 1]} than {label}, {sure}."
    )


def _unranked(section: Section, row: Row) -> list[str]:
    least, missed = section.rule.least_accuracy, row.missed_by
    if least is None or missed is None:
        return ["Not ranked."]
    sure = (
        "its whole interval is below, so the miss is shown"
        if row.accuracy.high < least
        else "its interval reaches above, so the miss is not shown"
    )
    asked = f"{least * 100:.2f} % is asked for ({rule_words(section)})"
    said = [f"Not ranked: {asked}, missed by {missed * 100:.2f} points; {sure}."]
    if section.ranked and not section.by_accuracy:
        faster = section.ranked[0].latency_ms.value / row.latency_ms.value - 1
        if faster > 0:
            said.append(f"It is {faster:.1%} faster than {section.ranked[0].label}, the first row, at that price.")
        else:
            said.append(f"It is not faster than {section.ranked[0].label}, the first row, either.")
    return said


def _leads_of(board: Leaderboard, section: Section, row: Row) -> list[tuple[Leads, EqualAccuracy]]:
    return [
        (leads, found)
        for leads in board.leads
        if leads.fleet == section.fleet
        for found in leads.rows
        if found.label == row.label
    ]


def _lead(found: EqualAccuracy, reference: str, cost: str) -> str:
    lead = lead_of(found, cost)
    shown = "shown" if lead.low > 0 or lead.high < 0 else "not shown"
    ends = f"{lead.low:+.1%} to {lead.high:+.1%}"
    targets = f"over its {found.n_targets} targets"
    return f"At equal accuracy it is {lead_words(lead, cost)} than {reference} {targets} ({ends}; {shown})."
