"""One method over all boards: its equal-accuracy lead over the best of its rivals on each fleet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hdapbench.leaderboard.board import EqualAccuracy, Leads
from hdapbench.leaderboard.build import build_from_briefs
from hdapbench.store.brief import Brief
from hdapbench.store.sqlite import Benchmark


@dataclass(frozen=True)
class Standing:
    """A method on one fleet of a board, against the rival that it leads least.

    Attributes
    ----------
    board, fleet
        Names of the board and of the fleet.
    cost
        As of `Leads`.
    source
        How latencies came about: ``measured`` or ``simulated``.
    rival
        Label of the rival.
    lead
        The method's lead over it; negative where the rival is ahead.
    n_rivals, n_targets, n_seeds
        Rows that it was compared with, targets of the board, and seeds with numbers of the method.
    """

    board: str
    fleet: str
    cost: str
    source: str
    rival: str
    lead: EqualAccuracy
    n_rivals: int
    n_targets: int
    n_seeds: int


def standings(benchmark: Benchmark, briefs: Sequence[Brief], method: str) -> list[Standing]:
    """How a method stands on each fleet of a board; nothing where it, or all others, have no numbers.

    Parameters
    ----------
    benchmark, briefs
        What the board is built from.
    method
        Name of the method. Of several rows of it the one with the greatest lead over the spec's reference is taken.
    """
    board = build_from_briefs(benchmark, briefs)
    found = []
    for leads in board.leads:
        own = next((label for label in _labels(leads) if _is_of(label, method)), None)
        rivals = [label for label in _labels(leads) if not _is_of(label, method)]
        if own is None or not rivals:
            continue
        lead, rival = min(((_lead_over(benchmark, briefs, leads, own, other), other) for other in rivals), key=_value)
        sections = [section for section in board.sections if section.fleet == leads.fleet]
        found.append(
            Standing(
                board.name,
                leads.fleet,
                leads.cost,
                " and ".join(sorted({section.source for section in sections})),
                rival,
                lead,
                len(rivals),
                len(sections),
                max(row.n_seeds for section in sections for row in section.rows if row.label == own),
            )
        )
    return found


def _labels(leads: Leads) -> tuple[str, ...]:
    """Rows of a fleet, the greatest lead first, the reference last."""
    return (*(row.label for row in leads.rows), leads.reference)


def _is_of(label: str, method: str) -> bool:
    """Whether a row is of a method: labels add parameters in brackets where a method has several rows."""
    return label == method or label.startswith(f"{method} (")


def _value(pair: tuple[EqualAccuracy, str]) -> float:
    return pair[0].lead.value


def _lead_over(benchmark: Benchmark, briefs: Sequence[Brief], leads: Leads, own: str, rival: str) -> EqualAccuracy:
    """Lead of one row over another, by the same board with that reference."""
    if rival != leads.reference:
        ranking = {**(benchmark.spec.get("ranking") or {}), "reference": rival}
        asked = Benchmark(
            benchmark.name, benchmark.spec_hash, {**benchmark.spec, "ranking": ranking}, benchmark.trial_ids
        )
        board = build_from_briefs(asked, briefs)
        leads = next(one for one in board.leads if (one.fleet, one.cost) == (leads.fleet, leads.cost))
    return next(row for row in leads.rows if row.label == own)


def ordered(found: Iterable[Standing]) -> list[Standing]:
    """Standings with the greatest lead first; measured ones before simulated ones."""
    return sorted(found, key=lambda one: (one.source, -one.lead.lead.value, one.board, one.fleet))
