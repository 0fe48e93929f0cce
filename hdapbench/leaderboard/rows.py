"""Table: the rows of one section, compared with each other and with the dense model, and put in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean

import numpy as np

from hdapbench.leaderboard.bits import bit_costs
from hdapbench.leaderboard.board import Row, Rule
from hdapbench.leaderboard.cells import Cells
from hdapbench.leaderboard.statistics import (
    Difference,
    Interval,
    Outcomes,
    Ratio,
    Spread,
    TwoWay,
    accuracy_differences,
    accuracy_interval,
    fit_two_way,
    latency_interval,
    latency_ratios,
    seed_spreads,
)
from hdapbench.spec import RankingSpec
from hdapbench.trial import DENSE

MOST_ALONE = 40
"""Rows of a table up to which the spread of an unranked row is pooled with the ranked ones; else with the unranked."""

ROUNDING = 1e-12
"""Accuracies are sums of shares: what is equal in writing may differ by so much."""


@dataclass(frozen=True)
class Compared:
    """Rows that are compared with each other: what they do not share is pooled over them.

    Attributes
    ----------
    cells
        Of each row.
    dense
        Those of the dense model, if it has numbers.
    seeds
        Of the spec: rows may lack some.
    """

    cells: list[Cells]
    dense: Cells | None
    seeds: tuple[int, ...]

    @cached_property
    def latencies(self) -> TwoWay:
        """Latencies of the rows, in the order of the cells."""
        return _fit(self.cells, self.seeds)

    @cached_property
    def outcomes(self) -> list[Outcomes]:
        """Accuracies of the rows, in the order of the cells."""
        return [cells.outcomes(self.seeds) for cells in self.cells]

    @cached_property
    def _spreads(self) -> list[Spread]:
        return seed_spreads(self.outcomes)

    def rows(self, least_accuracy: float | None) -> list[Row]:
        """Rows in the order of the cells, compared with the dense model, not yet with each other."""
        return [self.row(number, least_accuracy) for number in range(len(self.cells))]

    def row(self, number: int, least_accuracy: float | None) -> Row:
        """One of these rows."""
        cells = self.cells[number]
        accuracy = _accuracy(self.outcomes[number], self._spreads[number])
        lacking = None if least_accuracy is None else least_accuracy - accuracy.value
        row = _costs(cells, latency_interval(self.latencies, number), accuracy, len(self.seeds))
        missed = None if lacking is None or lacking <= ROUNDING else lacking
        if self._against_dense is None:
            return replace(row, missed_by=missed)
        ratio, difference = (found[number] for found in self._against_dense)
        speed_up = Interval(1 / ratio.value, 1 / ratio.high, 1 / ratio.low if ratio.low else np.inf)
        return replace(row, speed_up=speed_up, change=_less(difference, 0.0), missed_by=missed)

    @cached_property
    def _against_dense(self) -> tuple[list[Ratio], list[Difference]] | None:
        """Latency and accuracy of each row against the dense model, measured in the same sessions."""
        if self.dense is None:
            return None
        # One network: its accuracy is that of every seed. Its latency is that of the sessions that measured it.
        outcomes = [self.dense.in_every_session(self.seeds), *self.outcomes]
        ratios = latency_ratios(_fit([self.dense, *self.cells], self.seeds), 0)
        return ratios[1:], accuracy_differences(outcomes, 0)[1:]

    def against(self, first: int) -> list[tuple[Interval | None, Interval]]:
        """Latency over that of one row, less one, and accuracy less that of the row; None where widths are the same."""
        widths = [cells.widths for cells in self.cells]
        ratios, behind = latency_ratios(self.latencies, first), accuracy_differences(self.outcomes, first)
        return [
            (None if widths[number] == widths[first] else _less(ratio, 1.0), _less(difference, 0.0))
            for number, (ratio, difference) in enumerate(zip(ratios, behind, strict=True))
        ]


@dataclass(frozen=True)
class Table:
    """Rows of one target on one fleet, before they are in order.

    Attributes
    ----------
    target
        As the spec writes it.
    cells
        Of each row.
    dense
        Those of the dense model, if it has numbers.
    seeds
        Of the spec: rows may lack some.
    ranking
        What the spec says of ranking.
    """

    target: str
    cells: list[Cells]
    dense: Cells | None
    seeds: tuple[int, ...]
    ranking: RankingSpec

    @cached_property
    def rule(self) -> Rule:
        """What ranks the rows: by default latency where FLOPs are limited, accuracy under other limits."""
        limits_other = any(share is not None for cells in self.cells for share in cells.column("target_share"))
        by = self.ranking.by or ("accuracy" if limits_other else "latency")
        within = self.ranking.accuracy_within
        if by == "accuracy" or within is None or not self.cells:
            return Rule(by)
        best = max(self.cells, key=lambda cells: cells.accuracy)
        of = self.dense if self.ranking.of == DENSE and self.dense is not None else best
        return Rule(by, within, of.label, of.accuracy - within / 100)

    def rows(self) -> tuple[Row, ...]:
        """Rows in order: ranked ones, best first, then those that lose too much accuracy, by what they lack.

        Ranked rows are compared with each other. A network that broke down varies from seed to seed as none of them
        does: it says nothing of how sure the ranked ones are, nor of another that broke down.
        """
        least = self.rule.least_accuracy
        kept = [cells for cells in self.cells if least is None or cells.accuracy >= least - ROUNDING]
        left = [cells for cells in self.cells if not (least is None or cells.accuracy >= least - ROUNDING)]
        if len(self.cells) <= MOST_ALONE:
            unranked = [Compared([*kept, cells], self.dense, self.seeds).row(len(kept), least) for cells in left]
        else:
            unranked = Compared(left, self.dense, self.seeds).rows(least)
        rows = [*_in_order(Compared(kept, self.dense, self.seeds), self.rule), *_by_what_they_lack(unranked)]
        same: dict[object, list[str]] = {}
        for cells in self.cells:
            same.setdefault(cells.widths, []).append(cells.label)
        widths = {cells.label: cells.widths for cells in self.cells}
        return tuple(
            replace(row, same_as=tuple(sorted(label for label in same[widths[row.label]] if label != row.label)))
            for row in rows
        )


def _in_order(compared: Compared, rule: Rule) -> list[Row]:
    """Ranked rows, each beside the first; rows of the same latency share a rank where latency decides."""
    if not compared.cells:
        return []
    rows = compared.rows(None)

    def place(number: int) -> tuple[float, ...]:
        latency, accuracy = round(rows[number].latency_ms.value, 9), rows[number].accuracy.value
        return (-accuracy, latency) if rule.by == "accuracy" else (latency, -accuracy)

    order = sorted(range(len(rows)), key=place)
    against = compared.against(order[0])
    ranked: list[Row] = []
    for number in order:
        row = rows[number]
        if ranked:
            row = replace(row, slower=against[number][0], behind=against[number][1])
        is_tie = rule.by == "latency" and ranked and place(number)[0] == round(ranked[-1].latency_ms.value, 9)
        ranked.append(replace(row, rank=ranked[-1].rank if is_tie else len(ranked) + 1))
    return ranked


def _by_what_they_lack(rows: list[Row]) -> list[Row]:
    return sorted((row for row in rows if row.missed_by is not None), key=lambda row: row.missed_by or 0.0)


def dense_row(cells: Cells, seeds: tuple[int, ...]) -> Row:
    """Row of the dense model: one network, measured in the session of every seed."""
    first = dict(list(cells.by_seed.items())[:1])
    accuracy = _accuracy(Cells(DENSE, first).outcomes(tuple(first)), Spread(0.0, 0.0, 0.0))
    return _costs(cells, latency_interval(_fit([cells], seeds), 0), accuracy, len(seeds))


def _fit(cells: Sequence[Cells], seeds: Sequence[int]) -> TwoWay:
    return fit_two_way(
        np.array([row.log_latency_ms(seeds) for row in cells]),
        np.array([row.measurement_variance(seeds) for row in cells]),
    )


def _accuracy(outcomes: Outcomes, spread: Spread) -> Interval:
    found = accuracy_interval(outcomes, spread)
    value = float(np.nanmean(outcomes.by_seed))
    return Interval(value, 0.0, 1.0) if found is None else found


def _less(found: Ratio | Difference, taken: float) -> Interval:
    """A comparison as an interval, less a number."""
    return Interval(found.value - taken, found.low - taken, found.high - taken)


def _costs(cells: Cells, latency: Interval, accuracy: Interval, n_planned: int) -> Row:
    """Row with what its results cost, not compared with others."""
    each, spent = (
        cells.numbers,
        [fmean(column) for column in zip(*(brief.spent for brief in cells.briefs), strict=True)],
    )

    def mean(name: str) -> float:
        return fmean(cells.column(name))

    def known(values: Iterable[float | None]) -> float | None:
        found = [value for value in values if value is not None]
        return fmean(found) if found else None

    return Row(
        label=cells.label,
        method=cells.briefs[0].method,
        rank=None,
        missed_by=None,
        same_as=(),
        n_seeds=len(each),
        n_planned=n_planned,
        latency_ms=latency,
        speed_up=None,
        slower=None,
        fleet_half_width=fmean([(of.latency_high_ms - of.latency_low_ms) / 2 / of.latency_ms for of in each]),
        accuracy=accuracy,
        change=None,
        behind=None,
        p95_ms=mean("p95_ms"),
        worst_cluster_ms=mean("worst_cluster_ms"),
        flops=mean("flops"),
        flops_share=known(of.flops_share for of in each),
        params=mean("params"),
        size_bytes=mean("size_bytes"),
        device_queries=spent[0],
        accuracy_evals=spent[1],
        train_epochs=spent[2],
        map50=known(cells.column("map50")),
        bits=bit_costs(each),
        target_share=known(cells.column("target_share")),
        seeds=cells.seeds,
        devices=cells.devices,
        kept=cells.kept,
        target_shares=_mean_shares(cells.column("target_shares")),
    )


def _mean_shares(seeds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Kind of limit -> share that is used of it, averaged over seeds; of several limits alone."""
    return {kind: fmean(shares[kind] for shares in seeds) for kind in seeds[0]}
