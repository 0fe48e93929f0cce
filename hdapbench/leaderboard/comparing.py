"""Two trials, two rows or two boards against each other: values, with the intervals that boards have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from statistics import fmean

from hdapbench.errors import StoreError
from hdapbench.leaderboard.board import Leaderboard, Row, Section
from hdapbench.leaderboard.cells import Cells
from hdapbench.leaderboard.labels import labels_of
from hdapbench.leaderboard.rows import Compared
from hdapbench.leaderboard.statistics import Interval
from hdapbench.store.brief import Brief, brief_of
from hdapbench.trial import DENSE, Result

UNIFORM, FIRST = "uniform", "the first of its table"
"""What every plan is explained against."""


@dataclass(frozen=True)
class Side:
    """One of the two: means over its seeds. Latency in ms, accuracy in [0, 1], channels kept per group."""

    name: str
    latency_ms: float
    accuracy: float
    flops: float
    params: float
    size_bytes: float
    kept: Mapping[str, float]


@dataclass(frozen=True)
class Pair:
    """The second of two trials or rows against the first.

    Attributes
    ----------
    latency
        Latency of the second over that of the first, less one, with its interval; None where ``caution`` says why, or
        where both have the same widths.
    accuracy
        Accuracy of the second less that of the first, on the same images; None where ``caution`` says why.
    same_widths
        Whether they keep as many channels of every group.
    caution
        Why there are no intervals.
    """

    first: Side
    second: Side
    latency: Interval | None
    accuracy: Interval | None
    same_widths: bool
    caution: str | None = None

    @property
    def n_differing(self) -> int:
        """Groups of which they keep different numbers of channels, those that one alone has included."""
        names = {*self.first.kept, *self.second.kept}
        return sum(self.first.kept.get(name) != self.second.kept.get(name) for name in names)


@dataclass(frozen=True)
class Change:
    """A row that two boards have, or one of them; None where it is not there."""

    fleet: str
    target: str
    label: str
    before: Row | None
    after: Row | None

    @property
    def kind(self) -> str:
        """``appears``, ``vanishes``, ``changes`` or ``stays``: its rank, latency and accuracy."""
        if self.before is None or self.after is None:
            return "appears" if self.before is None else "vanishes"
        same = _shown(self.before) == _shown(self.after)
        return "stays" if same else "changes"


def compare_trials(first: Result, second: Result) -> Pair:
    """The second of two trials against the first, from raw latencies and test images.

    Raises
    ------
    StoreError
        When one has no numbers.
    """
    for result in (first, second):
        if result.metrics is None:
            raise StoreError(
                f"trial {result.trial.id} has no numbers to compare: {result.status.value}: {result.reason}"
            )
    labels = labels_of([first.trial, second.trial])
    sides = [
        Cells(f"{result.trial.named(labels[result.trial.id])} [{result.trial.id}]", {0: brief_of(result)})
        for result in (first, second)
    ]
    return _pair(sides, (0, 1), (0,), _caution(first, second))


def compare_rows(found: Sequence[Brief], board: Leaderboard, first: str, second: str) -> list[Pair]:
    """The second of two rows of a board against the first, with the board's own statistics.

    Parameters
    ----------
    found
        Briefs of the board's results.
    board
        What was made of them.
    first, second
        ``LABEL``, ``LABEL@TARGET`` or ``LABEL@TARGET@FLEET``. Labels alone are compared at every target that both have.
        ``dense`` is the dense model of the other's fleet.

    Raises
    ------
    StoreError
        When the board has no such row, or the two are on different fleets.
    """
    if DENSE in (first, second) and first != second:
        is_first = first == DENSE
        return [_of_dense(board, place, is_first=is_first) for place in _places(board, second if is_first else first)]
    one, other = _places(board, first), _places(board, second)
    pairs = [(a, b) for a in one for b in other if a[0].fleet == b[0].fleet and (a[0] is b[0] or "@" in first + second)]
    if not pairs:
        raise StoreError(
            f"'{first}' and '{second}' share no fleet and target; write LABEL@TARGET of each to compare them"
        )
    seeds = tuple(board.spec["seeds"])
    return [_of_places(found, a, b, seeds) for a, b in pairs]


@dataclass(frozen=True)
class Rival:
    """A trial that another one is explained against: ``uniform``, or ``the first of its table`` in ``role``."""

    role: str
    label: str
    result: Result


def rivals_of(result: Result, board: Leaderboard, found: Sequence[Result]) -> tuple[list[Rival], Result | None]:
    """Uniform pruning, and the first row of a trial's table, on the same seed; and the dense model.

    Parameters
    ----------
    result
        Of the trial. It is no rival of its own.
    board
        That the trial is on.
    found
        Results of the board.
    """
    trial = result.trial
    labels = labels_of([other.trial for other in found])
    same = [o for o in found if o.trial.fleet_hash == trial.fleet_hash and o.trial.context == trial.context]
    dense = next((other for other in same if other.trial.method == DENSE and other.plan is not None), None)
    at_target = [o for o in same if (o.trial.target, o.trial.seed) == (trial.target, trial.seed) and o.metrics]
    ids = {other.trial.id for other in at_target} | {trial.id}
    rows = [row for s in board.sections for row in s.ranked if {seed.trial_id for seed in row.seeds} & ids]
    first = {row.label for row in rows if row.rank == 1}
    rivals = []
    for other in at_target:
        label = labels[other.trial.id]
        roles = [role for role, has in ((UNIFORM, other.trial.method == UNIFORM), (FIRST, label in first)) if has]
        if roles and other.trial.id != trial.id:
            rivals.append(Rival(" and ".join(roles), label, other))
    return sorted(rivals, key=lambda rival: rival.role == FIRST)[:3], dense


def compare_boards(before: Leaderboard, after: Leaderboard) -> list[Change]:
    """Rows of two boards, ranking by ranking, in the order of the later board and then of the earlier one."""
    old, new = _by_place(before), _by_place(after)
    return [Change(*place, old.get(place), new.get(place)) for place in {**new, **old}]


Place = tuple[Section, Row]


def _places(board: Leaderboard, text: str) -> list[Place]:
    every = [(section, row) for section in board.sections for row in section.rows]
    found = [(section, row) for section, row in every if text in _names(section, row)]
    if not found:
        known = "; ".join(dict.fromkeys(row.label for _, row in every)) or "none yet"
        raise StoreError(f"board '{board.name}' has no row '{text}'; its rows: {known}; targets follow as LABEL@TARGET")
    return found


def _names(section: Section, row: Row) -> tuple[str, ...]:
    at = f"{row.label}@{section.target}"
    return row.label, at, f"{at}@{section.fleet}"


def _of_places(found: Sequence[Brief], first: Place, second: Place, seeds: tuple[int, ...]) -> Pair:
    """A pair, compared as in its table: variances are pooled over the rows that the table compares."""
    (section, one), (other_section, other) = first, second
    if section is other_section:
        both_ranked = one.rank is not None and other.rank is not None
        rows = [(section, row) for row in (section.ranked if both_ranked else section.rows)]
    else:
        rows = [first, second]
    by_id = {brief.id: brief for brief in found}
    cells = [
        Cells(f"{row.label} @ {of.target} on {of.fleet}", {seed.seed: by_id[seed.trial_id] for seed in row.seeds})
        for of, row in rows
    ]
    places = [next(n for n, (_, row) in enumerate(rows) if row is wanted) for wanted in (one, other)]
    return _pair(cells, places, seeds, None)


def _of_dense(board: Leaderboard, place: Place, *, is_first: bool) -> Pair:
    """A row against the dense model, or the other way round, as the board compares them."""
    section, row = place
    if section.fleet not in board.dense:
        raise StoreError(f"the dense model has no numbers on fleet '{section.fleet}' yet")
    dense, speed_up, change = board.dense[section.fleet], row.speed_up, row.change
    sides = [_row_side(dense, "", section), _row_side(row, f" @ {section.target}", section)]
    if is_first and speed_up is not None:
        ends = (1 / end - 1 if end else inf for end in (speed_up.value, speed_up.high, speed_up.low))
        latency: Interval | None = Interval(*ends)
    else:
        latency = speed_up and Interval(speed_up.value - 1, speed_up.low - 1, speed_up.high - 1)
    if change is not None and not is_first:
        change = Interval(-change.value, -change.high, -change.low)
    caution = "dense was not measured in the sessions of the row" if speed_up is None else None
    first, second = sides if is_first else sides[::-1]
    return Pair(first, second, latency=latency, accuracy=change, same_widths=False, caution=caution)


def _row_side(row: Row, at: str, section: Section) -> Side:
    name = f"{row.label}{at} on {section.fleet}"
    return Side(name, row.latency_ms.value, row.accuracy.value, row.flops, row.params, row.size_bytes, row.kept)


def _pair(cells: list[Cells], places: Sequence[int], seeds: tuple[int, ...], caution: str | None) -> Pair:
    one, other = (cells[place] for place in places)
    latency, accuracy = Compared(cells, None, seeds).against(places[0])[places[1]]
    sides, is_same = (_side(one), _side(other)), bool(one.widths) and one.widths == other.widths
    if caution is not None:
        return Pair(*sides, latency=None, accuracy=None, same_widths=is_same, caution=caution)
    if accuracy.low <= -1 and accuracy.high >= 1:  # nothing is known of it
        caution = "accuracy is that of one seed, and what each test image contributed is not stored"
        return Pair(*sides, latency=latency, accuracy=None, same_widths=is_same, caution=caution)
    return Pair(*sides, latency=latency, accuracy=accuracy, same_widths=is_same)


def _side(cells: Cells) -> Side:
    def mean(values: Iterable[float]) -> float:
        return fmean(values)

    return Side(
        cells.label,
        mean(numbers.latency_ms for numbers in cells.numbers),
        cells.accuracy,
        mean(numbers.flops for numbers in cells.numbers),
        mean(numbers.params for numbers in cells.numbers),
        mean(numbers.size_bytes for numbers in cells.numbers),
        cells.kept,
    )


def _caution(first: Result, second: Result) -> str | None:
    """Why two trials cannot be compared on the same images and devices, or None."""
    one, other = first.trial, second.trial
    if one.fleet_hash != other.fleet_hash:
        return "they were measured on different fleets"
    if (one.context, one.sources) != (other.context, other.sources):
        return "their model, data or recipes differ"
    return None


def _by_place(board: Leaderboard) -> dict[tuple[str, str, str], Row]:
    rows = {(s.fleet, s.target, row.label): row for s in board.sections for row in s.rows}
    return rows | {(fleet, DENSE, row.label): row for fleet, row in board.dense.items()}


def _shown(row: Row) -> tuple[object, ...]:
    """What of a row counts as a change: nothing that rounding does."""
    return row.rank, f"{row.latency_ms.value:.9g}", f"{row.accuracy.value:.9g}"
