"""Stored results -> Leaderboard: ranked rows, the trials that have no numbers, leads and provenance."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pydantic import ValidationError

from hdapbench.errors import StoreError
from hdapbench.leaderboard.board import Gap, Leaderboard, Leads, Section
from hdapbench.leaderboard.cells import Cells
from hdapbench.leaderboard.labels import labels_of
from hdapbench.leaderboard.leads import leads_on
from hdapbench.leaderboard.rows import Table, dense_row
from hdapbench.leaderboard.warnings import board_warnings, fleet_warnings, section_warnings
from hdapbench.run.grid import fleet_hash
from hdapbench.spec import FleetSpec, RankingSpec, Spec
from hdapbench.store.sqlite import Benchmark
from hdapbench.trial import DENSE, Result, Status


def build_leaderboard(benchmark: Benchmark, results: Iterable[Result]) -> Leaderboard:
    """Leaderboard of a registered spec from those of its trials that have results.

    Raises
    ------
    StoreError
        When the stored spec is of a version that this one does not know.
    """
    found = list(results)
    spec = _stored_spec(benchmark)
    labels = labels_of([result.trial for result in found])
    dense: dict[str, Cells] = {}
    sections: list[Section] = []
    leads: list[Leads] = []
    for fleet in spec.fleets:
        # By content: a result is shared by specs that call the same fleet by different names.
        digest = fleet_hash(fleet)
        here = [result for result in found if result.trial.fleet_hash == digest]
        reference = {r.trial.seed: r for r in here if r.trial.method == DENSE and r.metrics is not None}
        if reference:
            dense[fleet.name] = Cells(DENSE, reference)
        tables = _tables(spec, fleet, here, dense.get(fleet.name), labels)
        sections += [section for section, _ in tables]
        leads += leads_on(fleet.name, [table for _, table in tables], dense.get(fleet.name), _ranking(spec), spec)
    finished = {result.trial.id for result in found}
    first = {fleet: next(iter(cells.by_seed.values())) for fleet, cells in dense.items()}
    board = Leaderboard(
        name=benchmark.name,
        spec_hash=benchmark.spec_hash,
        spec=benchmark.spec,
        dense={fleet: dense_row(cells, spec.seeds) for fleet, cells in dense.items()},
        sections=tuple(sections),
        leads=tuple(leads),
        warnings=(),
        notes={fleet: result.notes for fleet, result in first.items()},
        environments=tuple(dict.fromkeys(sorted((r.environment for r in found), key=str))),
        n_trials=len(benchmark.trial_ids),
        n_finished=len(finished & set(benchmark.trial_ids)),
        n_images=next((r.outcomes.n_images for r in found if r.outcomes is not None), None),
    )
    return replace(board, warnings=(*board_warnings(board), *fleet_warnings(found)))


def _stored_spec(benchmark: Benchmark) -> Spec:
    try:
        return Spec.model_validate_json(json.dumps(benchmark.spec))
    except ValidationError as error:
        details = error.errors()[0]
        raise StoreError(
            f"the stored spec of '{benchmark.name}' is of another version of hdapbench: "
            f"{'.'.join(map(str, details['loc']))}: {details['msg']}; upgrade with: pip install --upgrade hdapbench"
        ) from None


def _ranking(spec: Spec) -> RankingSpec:
    return spec.ranking or RankingSpec()


def _tables(
    spec: Spec, fleet: FleetSpec, here: Sequence[Result], dense: Cells | None, labels: dict[str, str]
) -> list[tuple[Section, Table]]:
    """Section of each target on a fleet, and what it was made of."""
    without = [result for result in here if result.trial.method == DENSE and result.metrics is None]
    made = []
    for target in dict.fromkeys(result.trial.target for result in here if result.trial.target):
        chosen = [*without, *(result for result in here if result.trial.target == target)]
        flops = min((m.flops_target for r in chosen if (m := r.metrics) and m.flops_target is not None), default=None)
        chosen = [_within_limit(result, flops) for result in chosen]
        table = Table(target, _cells(chosen, labels), dense, spec.seeds, _ranking(spec))
        origins = [*chosen, *([] if dense is None else dense.results)]
        rows, gaps = table.rows(), _gaps(chosen, labels)
        section = Section(fleet.name, target, flops, _source(origins), table.rule, rows, gaps)
        made.append((replace(section, warnings=section_warnings(section)), table))
    return made


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


def _cells(results: Sequence[Result], labels: dict[str, str]) -> list[Cells]:
    """Results that have numbers, by row."""
    groups: dict[str, dict[int, Result]] = {}
    for result in results:
        if result.status is Status.COMPLETE and result.metrics is not None:
            groups.setdefault(labels[result.trial.id], {})[result.trial.seed] = result
    return [Cells(label, dict(sorted(by_seed.items()))) for label, by_seed in groups.items()]


def _gaps(results: Sequence[Result], labels: dict[str, str]) -> tuple[Gap, ...]:
    gaps = [
        Gap(labels[result.trial.id], result.trial.seed, result.status.value, result.reason or "no reason given")
        for result in results
        if result.status is not Status.COMPLETE or result.metrics is None
    ]
    return tuple(sorted(gaps, key=lambda gap: (gap.label, gap.seed)))


def _source(results: Sequence[Result]) -> str:
    """``simulated`` or ``measured``; both joined where they met, for they must not share a table unmarked."""
    return " and ".join(sorted({result.metrics.latency_source for result in results if result.metrics})) or "unknown"
