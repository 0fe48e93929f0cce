"""Equal-accuracy leads of a fleet: each method's front over all targets against that of the reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log

import numpy as np

from hdapbench.arrays import Floats
from hdapbench.leaderboard.board import EqualAccuracy, Leads
from hdapbench.leaderboard.cells import Cells
from hdapbench.leaderboard.rows import Table
from hdapbench.leaderboard.statistics import Cell, Curves, Interval, bootstrap_fronts, equal_accuracy_lead
from hdapbench.spec import RankingSpec, Spec
from hdapbench.store.brief import Numbers

N_REPLICATES = 500
"""Of the bootstrap: the ends of an interval vary by a few per cent of its length."""


def leads_on(
    fleet: str, tables: Sequence[Table], dense: Cells | None, ranking: RankingSpec, spec: Spec
) -> tuple[Leads, ...]:
    """Leads on a fleet: by latency under FLOPs and latency targets, by bytes stored where rows have bit-widths.

    Parameters
    ----------
    fleet
        Its name.
    tables
        One of each target.
    dense
        The dense model: a point of every front by latency.
    ranking
        Names the reference: a row's label, or a method. Where there is no such row, it is of the first method of the
        spec that has rows.
    spec
        Whose seeds and methods these are.
    """
    found = []
    for cost in ("latency", "stored"):
        points = [
            (table.target, cells)
            for table in tables
            for cells in table.cells
            if all(_has(numbers, cost) for numbers in cells.numbers)
        ]
        labels = list(dict.fromkeys(cells.label for _, cells in points))
        if len(labels) < 2:
            continue
        reference = _reference(labels, points, ranking, spec)
        found.append(_leads(fleet, cost, points, dense if cost == "latency" else None, reference, spec.seeds))
    return tuple(found)


def _reference(labels: Sequence[str], points: Sequence[tuple[str, Cells]], ranking: RankingSpec, spec: Spec) -> str:
    method = {cells.label: cells.briefs[0].method for _, cells in points}
    wanted = [ranking.reference, *(entry.name for entry in spec.methods)]
    if ranking.reference in labels:
        return ranking.reference
    found = next((name for name in wanted if name in method.values()), method[labels[0]])
    # Of a method's variants, the one of the most targets: a front tells more than a point.
    n_points = Counter(cells.label for _, cells in points)
    return max((label for label in labels if method[label] == found), key=n_points.__getitem__)


def _leads(
    fleet: str,
    cost: str,
    points: Sequence[tuple[str, Cells]],
    dense: Cells | None,
    reference: str,
    seeds: Sequence[int],
) -> Leads:
    ordered = [cells for _, cells in points]
    cells = [_cell(of, cost, seeds) for of in ordered]
    if dense is not None:
        cells.append(_cell(dense, cost, seeds, is_fixed=True))
    drawn = bootstrap_fronts(cells, np.random.default_rng(0), N_REPLICATES)  # the same for the same results
    places: dict[str, list[int]] = {}
    for number, of in enumerate(ordered):
        places.setdefault(of.label, []).append(number)
    shared = [] if dense is None else [len(ordered)]  # the dense model is a point of every front
    other = Curves(drawn[:, [*places.pop(reference), *shared]])
    rows = [_lead(label, drawn[:, [*at, *shared]], other, len(at)) for label, at in places.items()]
    rows.sort(key=lambda row: (-row.lead.value, row.label))
    return Leads(fleet, cost, reference, tuple(rows))


def _cell(cells: Cells, cost: str, seeds: Sequence[int], *, is_fixed: bool = False) -> Cell:
    outcomes = cells.in_every_session(seeds) if is_fixed else cells.outcomes(seeds)
    if is_fixed:  # one network, measured in the session of every seed
        first = next(iter(cells.by_seed.values()))
        cells = Cells(cells.label, {seed: cells.by_seed.get(seed, first) for seed in seeds})
    if cost == "latency":
        log_cost, variance = cells.log_latency_ms(seeds), cells.measurement_variance(seeds)
    else:
        log_cost = np.array([_log_bytes(cells, seed) for seed in seeds])
        variance = np.where(np.isnan(log_cost), np.nan, 0.0)
    return Cell(cells.label, log_cost, variance, outcomes, is_fixed)


def _log_bytes(cells: Cells, seed: int) -> float:
    numbers = cells.by_seed[seed].numbers if seed in cells.by_seed else None
    stored = None if numbers is None or numbers.bits is None else numbers.bits.stored_bytes
    return np.nan if stored is None else log(stored)


def _has(numbers: Numbers, cost: str) -> bool:
    """Whether a result is a point by that cost: quantised models by bytes, others by latency."""
    if cost == "latency":
        return numbers.bits is None
    return numbers.bits is not None and numbers.bits.stored_bytes is not None


def _lead(label: str, front: Floats, reference: Curves, n_targets: int) -> EqualAccuracy:
    found = equal_accuracy_lead(front, reference)
    lead = Interval(found.value, found.low, found.high)
    return EqualAccuracy(label, lead, (found.accuracy_low, found.accuracy_high), n_targets, found.overlaps)
