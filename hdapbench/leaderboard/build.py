"""Leaderboard: ranked rows of stored results, with the trials that have no numbers and the provenance."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from statistics import fmean
from typing import Any

from pydantic import ValidationError

from hdapbench.errors import StoreError
from hdapbench.leaderboard.bits import BitCosts, bit_costs
from hdapbench.leaderboard.statistics import Estimate, estimate, pareto_front
from hdapbench.run.grid import fleet_hash
from hdapbench.spec import Spec
from hdapbench.store.sqlite import Benchmark
from hdapbench.trial import DENSE, Environment, Metrics, Result, Status, Trial

LEAST_SHARE = 0.97
"""A row that uses less of its FLOPs target gave budget away, and is marked."""

METRICS = {"classification": "accuracy", "detection": "mAP50-95"}
"""Task -> name of the metric in `Metrics.accuracy`."""


@dataclass(frozen=True)
class Row:
    """One method with one set of parameters at one target on one fleet, over all seeds.

    ``n_seeds`` of ``n_planned`` seeds have numbers. Latencies in ms, accuracy in [0, 1], ``accuracy_drop`` and
    ``speed_up`` against the dense model, None as long as that has no numbers. ``latency_ms`` covers the spread over
    seeds; ``fleet_half_width`` is the relative half-width of the interval over devices that were not measured.
    Seconds are left out: they would differ from run to run. For detection, accuracy is mAP50-95, with ``map50`` beside.
    """

    rank: int | None
    label: str
    n_seeds: int
    n_planned: int
    accuracy: Estimate
    accuracy_drop: float | None
    latency_ms: Estimate
    fleet_half_width: float
    speed_up: float | None
    p95_ms: float
    worst_cluster_ms: float
    flops: float
    flops_share: float | None
    params: float
    size_bytes: float
    device_queries: float
    accuracy_evals: float
    train_epochs: float
    pareto: bool
    level_with_first: bool
    map50: float | None = None
    bits: BitCosts | None = None
    target_share: float | None = None

    @property
    def gave_budget_away(self) -> bool:
        """Whether less than 0.97 of the target is used."""
        share = self.flops_share if self.target_share is None else self.target_share
        return share is not None and share < LEAST_SHARE


@dataclass(frozen=True)
class Gap:
    """A trial without numbers, and why."""

    label: str
    seed: int
    status: str
    reason: str


@dataclass(frozen=True)
class Section:
    """One target on one fleet. Rows are ranked by latency, or by accuracy where the target is not FLOPs."""

    fleet: str
    target: str
    target_flops: int | None
    source: str
    rows: tuple[Row, ...]
    gaps: tuple[Gap, ...]

    @property
    def by_accuracy(self) -> bool:
        """Whether accuracy is what rows are ranked by."""
        return _by_accuracy(self.rows)


@dataclass(frozen=True)
class Leaderboard:
    """Everything that a board shows, and the provenance to rebuild it."""

    name: str
    spec_hash: str
    spec: dict[str, Any]
    dense: dict[str, Row]
    sections: tuple[Section, ...]
    notes: dict[str, dict[str, Any]]
    environments: tuple[Environment, ...]
    n_trials: int
    n_finished: int

    def front(self, fleet: str) -> tuple[tuple[str, Row, bool], ...]:
        """(Target, row, whether no smaller one is as accurate) of all quantised rows of a fleet, smallest first."""
        found = [(s.target, row, row.bits) for s in self.sections if s.fleet == fleet for row in s.rows]
        sized = [(target, row, bits.weight_bytes) for target, row, bits in found if bits is not None]
        sized.sort(key=lambda entry: (entry[2], -entry[1].accuracy.mean))
        points = [(weight_bytes, -row.accuracy.mean) for _, row, weight_bytes in sized]
        leads = pareto_front(points)
        return tuple(  # of equal points the first leads
            (target, row, leads[number] and points[number] not in points[:number])
            for number, (target, row, _) in enumerate(sized)
        )

    @property
    def metric(self) -> str:
        """What rows call accuracy: the metric of the spec's task."""
        return METRICS[self.spec.get("task", "classification")]


def build_leaderboard(benchmark: Benchmark, results: Iterable[Result]) -> Leaderboard:
    """Leaderboard of a registered spec from those of its trials that have results.

    Within a section, rows are ranked by mean latency, the more accurate first where it is equal.

    Raises
    ------
    StoreError
        When the stored spec is of a version that this one does not know.
    """
    found = list(results)
    finished = {result.trial.id for result in found}
    spec = _stored_spec(benchmark)
    labels = labels_of([result.trial for result in found])
    dense: dict[str, Result] = {}
    sections = []
    for fleet in spec.fleets:
        # By content: a result is shared by specs that call the same fleet by different names.
        here = [result for result in found if result.trial.fleet_hash == fleet_hash(fleet)]
        for reference in (result for result in here if result.trial.method == DENSE and result.metrics):
            dense[fleet.name] = reference
        missing = [result for result in here if result.trial.method == DENSE and result.metrics is None]
        for target in dict.fromkeys(result.trial.target for result in here if result.trial.target):
            chosen = [*missing, *(result for result in here if result.trial.target == target)]
            flops = min(
                (m.flops_target for r in chosen if (m := r.metrics) and m.flops_target is not None), default=None
            )
            chosen = [_within_limit(result, flops) for result in chosen]
            rows, gaps = _rows(chosen, dense.get(fleet.name), labels, n_planned=len(spec.seeds))
            origins = [*chosen, *filter(None, [dense.get(fleet.name)])]
            sections.append(Section(fleet.name, target, flops, _source(origins), rows, gaps))
    return Leaderboard(
        name=benchmark.name,
        spec_hash=benchmark.spec_hash,
        spec=benchmark.spec,
        dense={fleet: _row("dense", [result], result, n_planned=1) for fleet, result in dense.items()},
        sections=tuple(sections),
        notes={fleet: result.notes for fleet, result in dense.items()},
        environments=tuple(dict.fromkeys(sorted((r.environment for r in found), key=str))),
        n_trials=len(benchmark.trial_ids),
        n_finished=len(finished & set(benchmark.trial_ids)),
    )


def _stored_spec(benchmark: Benchmark) -> Spec:
    try:
        return Spec.model_validate_json(json.dumps(benchmark.spec))
    except ValidationError as error:
        details = error.errors()[0]
        raise StoreError(
            f"the stored spec of '{benchmark.name}' is of another version of hdapbench: "
            f"{'.'.join(map(str, details['loc']))}: {details['msg']}; upgrade with: pip install --upgrade hdapbench"
        ) from None


def _within_limit(result: Result, flops: int | None) -> Result:
    """A result as it is, or as infeasible where it is above the limit of its section: that is never ranked."""
    metrics = result.metrics
    if metrics is None:
        return result
    reason = None
    if flops is not None and metrics.flops > flops:
        reason = f"{metrics.flops:,} FLOPs, above the target of {flops:,}"
    elif metrics.target_share is not None and metrics.target_share > 1:
        reason = f"uses {metrics.target_share:.2%} of its target"
    if reason is None:
        return result
    return result.model_copy(update={"status": Status.INFEASIBLE, "reason": reason, "metrics": None, "devices": ()})


def _rows(
    results: list[Result], dense: Result | None, labels: dict[str, str], *, n_planned: int
) -> tuple[tuple[Row, ...], tuple[Gap, ...]]:
    """Rows in order of rank, and the trials without numbers."""
    groups: dict[str, list[Result]] = {}
    gaps = []
    for result in results:
        label = labels[result.trial.id]
        if result.status is Status.COMPLETE and result.metrics is not None:
            groups.setdefault(label, []).append(result)
        else:
            gaps.append(Gap(label, result.trial.seed, result.status.value, result.reason or "no reason given"))
    rows = [_row(label, group, dense, n_planned=n_planned) for label, group in groups.items()]
    return _ranked(rows), tuple(sorted(gaps, key=lambda gap: (gap.label, gap.seed)))


def _ranked(rows: list[Row]) -> tuple[Row, ...]:
    """Rows in order, each with its rank, its place on the Pareto front, and whether it is level with the first.

    Accuracy competes with latency or, where the target limits bits or latency, with what is limited.
    """
    by_accuracy = _by_accuracy(rows)

    def competing(row: Row) -> Estimate:
        return row.accuracy if by_accuracy else row.latency_ms

    def cost(row: Row) -> float:
        if not by_accuracy:
            return row.latency_ms.mean
        return inf if row.target_share is None else row.target_share

    rows = sorted(rows, key=lambda row: (0.0 if by_accuracy else cost(row), -row.accuracy.mean, row.label))
    front = pareto_front([(cost(row), -row.accuracy.mean) for row in rows])
    return tuple(
        replace(
            row,
            rank=rank,
            pareto=on_front,
            level_with_first=rank > 1 and competing(row).overlaps(competing(rows[0])),
        )
        for rank, (row, on_front) in enumerate(zip(rows, front, strict=True), start=1)
    )


def _by_accuracy(rows: Sequence[Row]) -> bool:
    """Whether the target limits bits or latency: what is left to compete in is accuracy."""
    return any(row.target_share is not None for row in rows)


def _source(results: list[Result]) -> str:
    """``simulated`` or ``measured``; both joined where they met, for they must not share a table unmarked."""
    return " and ".join(sorted({result.metrics.latency_source for result in results if result.metrics})) or "unknown"


def _row(label: str, results: list[Result], dense: Result | None, *, n_planned: int) -> Row:
    metrics = [result.metrics for result in results if result.metrics is not None]
    latency = estimate([m.latency_ms for m in metrics])
    accuracy = estimate([m.accuracy for m in metrics])
    reference = dense.metrics if dense is not None else None

    def mean(value: Callable[[Metrics], float]) -> float:
        return fmean(value(m) for m in metrics)

    map50 = [m.map50 for m in metrics if m.map50 is not None]
    shares = [m.flops_share for m in metrics if m.flops_share is not None]
    bit_shares = [m.target_share for m in metrics if m.target_share is not None]
    return Row(
        rank=None,
        label=label,
        n_seeds=len(metrics),
        n_planned=n_planned,
        accuracy=accuracy,
        accuracy_drop=reference.accuracy - accuracy.mean if reference else None,
        latency_ms=latency,
        fleet_half_width=mean(lambda m: (m.latency_high_ms - m.latency_low_ms) / 2 / m.latency_ms),
        speed_up=reference.latency_ms / latency.mean if reference else None,
        p95_ms=mean(lambda m: m.p95_ms),
        worst_cluster_ms=mean(lambda m: m.worst_cluster_ms),
        flops=mean(lambda m: m.flops),
        flops_share=fmean(shares) if shares else None,
        params=mean(lambda m: m.params),
        size_bytes=mean(lambda m: m.size_bytes),
        device_queries=fmean(result.spent.device_queries for result in results),
        accuracy_evals=fmean(result.spent.accuracy_evals for result in results),
        train_epochs=fmean(result.spent.train_epochs for result in results),
        pareto=False,
        level_with_first=False,
        map50=fmean(map50) if map50 else None,
        bits=bit_costs(metrics),
        target_share=fmean(bit_shares) if bit_shares else None,
    )


def labels_of(trials: Sequence[Trial]) -> dict[str, str]:
    """Trial id -> method, with the fewest of its first parameters that tell its variants apart."""
    variants: dict[str, list[dict[str, Any]]] = {}
    for trial in trials:
        variants.setdefault(trial.method, []).append(trial.parameters)
    told = {method: _telling(parameters) for method, parameters in variants.items()}
    labels = {}
    for trial in trials:
        keys = [key for key in told[trial.method] if key in trial.parameters]
        detail = ", ".join(_short(key, trial.parameters[key]) for key in keys)
        labels[trial.id] = f"{trial.method} ({detail})" if detail else trial.method
    return labels


def _telling(variants: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """The first parameters, in their order, that tell all variants apart: a preset alone, where it sets the others."""
    told: list[str] = []
    classes = 1
    n_distinct = len({json.dumps(parameters, sort_keys=True) for parameters in variants})
    for key in dict.fromkeys(name for parameters in variants for name in parameters):
        if classes == n_distinct:
            break
        split = len({json.dumps([parameters.get(name) for name in (*told, key)]) for parameters in variants})
        if split > classes:
            told.append(key)
            classes = split
    return tuple(told)


def _short(key: str, value: object) -> str:
    """``taylor`` for a word, ``steps=3`` for anything else."""
    return value if isinstance(value, str) else f"{key}={json.dumps(value)}"
