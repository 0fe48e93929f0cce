"""Board: rows that are ranked or not, how they compare, and what to know before reading them. Values, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hdapbench.leaderboard.bits import BitCosts
from hdapbench.leaderboard.statistics import Interval, pareto_front
from hdapbench.trial import Environment

METRICS = {"classification": "accuracy", "detection": "mAP50-95"}
"""Task -> name of the metric in `Metrics.accuracy`."""


@dataclass(frozen=True)
class Seed:
    """One trial of a row: latency in ms, accuracy in [0, 1]."""

    seed: int
    trial_id: str
    latency_ms: float
    accuracy: float


@dataclass(frozen=True)
class MeasuredDevice:
    """A device that was measured: its cluster, its share of the fleet, and its median latency over seeds in ms."""

    device: str
    cluster: int
    weight: float
    latency_ms: float


@dataclass(frozen=True)
class Row:
    """One method with one set of parameters at one target on one fleet, over all seeds.

    Latencies in ms, accuracy in [0, 1]; intervals are of 95 %. What is told of means of costs is over the seeds that
    have numbers, ``n_seeds`` of ``n_planned``.

    Attributes
    ----------
    rank
        Rows with the same widths share one; None for the dense model and for rows that lose too much accuracy.
    missed_by
        Accuracy that an unranked row lacks to be ranked; None for the others.
    same_as
        Labels of the rows that chose the same widths on every seed.
    latency_ms
        Least-squares mean over seeds: a row that lacks seeds is compared on those it has.
    speed_up
        Dense latency over this one; None as long as dense has no numbers.
    slower
        Latency over that of the first row, less one; None for the first row. The intervals of a section hold together.
    fleet_half_width
        Relative half-width of the interval over devices that were not measured.
    change
        Accuracy less that of the dense model, on the same images.
    behind
        Accuracy less that of the first row, on the same images; None for the first. The intervals hold together.
    kept
        Group -> channels kept, mean over seeds.
    """

    label: str
    method: str
    rank: int | None
    missed_by: float | None
    same_as: tuple[str, ...]
    n_seeds: int
    n_planned: int
    latency_ms: Interval
    speed_up: Interval | None
    slower: Interval | None
    fleet_half_width: float
    accuracy: Interval
    change: Interval | None
    behind: Interval | None
    p95_ms: float
    worst_cluster_ms: float
    flops: float
    flops_share: float | None
    params: float
    size_bytes: float
    device_queries: float
    accuracy_evals: float
    train_epochs: float
    map50: float | None
    bits: BitCosts | None
    target_share: float | None
    seeds: tuple[Seed, ...]
    devices: tuple[MeasuredDevice, ...]
    kept: Mapping[str, float]
    target_shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_partial(self) -> bool:
        """Whether seeds are missing."""
        return self.n_seeds < self.n_planned


@dataclass(frozen=True)
class Gap:
    """A trial without numbers, and why."""

    label: str
    seed: int
    status: str
    reason: str


@dataclass(frozen=True)
class Rule:
    """What ranks the rows of a section.

    Attributes
    ----------
    by
        ``latency`` or ``accuracy``.
    accuracy_within
        Points that a row may lose; None where none is left out.
    of
        Label of the row that they are counted from: the most accurate one, or ``dense``; None where none is left out.
    least_accuracy
        In [0, 1]: what a row needs to be ranked; None where none is left out.
    """

    by: str
    accuracy_within: float | None = None
    of: str | None = None
    least_accuracy: float | None = None


@dataclass(frozen=True)
class Section:
    """One target on one fleet: rows in order of rank, then those that are not ranked, by what they lack.

    Attributes
    ----------
    warnings
        Sentences on what to know before the ranking is read.
    """

    fleet: str
    target: str
    target_flops: int | None
    source: str
    rule: Rule
    rows: tuple[Row, ...]
    gaps: tuple[Gap, ...]
    warnings: tuple[str, ...] = ()

    @property
    def by_accuracy(self) -> bool:
        """Whether accuracy is what rows are ranked by."""
        return self.rule.by == "accuracy"

    @property
    def ranked(self) -> tuple[Row, ...]:
        """Rows that have a rank, best first."""
        return tuple(row for row in self.rows if row.rank is not None)

    @property
    def unranked(self) -> tuple[Row, ...]:
        """Rows that lose too much accuracy to be ranked, the nearest first."""
        return tuple(row for row in self.rows if row.rank is None)


@dataclass(frozen=True)
class EqualAccuracy:
    """A method against the reference at equal accuracy, over all targets of a fleet.

    Attributes
    ----------
    label
        The row's method, with the parameters that tell its variants apart.
    lead
        0.31: the reference takes 1.31 times the latency, or bytes, at equal accuracy; negative where it takes less.
    accuracies
        Lowest and highest accuracy over which they are compared.
    n_targets
        Targets at which the method has numbers.
    overlaps
        Whether both fronts span these accuracies; otherwise one is more accurate throughout.
    """

    label: str
    lead: Interval
    accuracies: tuple[float, float]
    n_targets: int
    overlaps: bool


@dataclass(frozen=True)
class Leads:
    """Equal-accuracy leads on one fleet, the greatest first. ``cost`` is ``latency`` or ``stored``."""

    fleet: str
    cost: str
    reference: str
    rows: tuple[EqualAccuracy, ...]


@dataclass(frozen=True)
class Leaderboard:
    """Everything that a board shows, and the provenance to rebuild it."""

    name: str
    spec_hash: str
    spec: dict[str, Any]
    dense: dict[str, Row]
    sections: tuple[Section, ...]
    leads: tuple[Leads, ...]
    warnings: tuple[str, ...]
    notes: dict[str, dict[str, Any]]
    environments: tuple[Environment, ...]
    n_trials: int
    n_finished: int
    n_images: int | None
    has_products: bool = False

    @property
    def flops_of(self) -> str:
        """What the board's FLOPs are multiply-accumulates of: with or without products between activations."""
        layers = "convolution and linear layers"
        if not self.has_products:
            return layers
        return f"{layers}, {'and' if self.spec.get('count_products', True) else 'without'} products between activations"

    @property
    def metric(self) -> str:
        """What rows call accuracy: the metric of the spec's task."""
        return METRICS[self.spec.get("task", "classification")]

    def front(self, fleet: str) -> tuple[tuple[str, Row, bool], ...]:
        """(Target, row, whether no smaller one is as accurate) of all quantised rows of a fleet, smallest first."""
        found = [(s.target, row, row.bits) for s in self.sections if s.fleet == fleet for row in s.rows]
        sized = [
            (target, row, bits.stored_bytes) for target, row, bits in found if bits and bits.stored_bytes is not None
        ]
        sized.sort(key=lambda entry: (entry[2], -entry[1].accuracy.value))
        points = [(stored_bytes, -row.accuracy.value) for _, row, stored_bytes in sized]
        leads = pareto_front(points)
        return tuple(  # of equal points the first leads
            (target, row, leads[number] and points[number] not in points[:number])
            for number, (target, row, _) in enumerate(sized)
        )
