"""Stored results -> Leaderboard: ranked rows, the trials that have no numbers, leads and provenance."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from pydantic import ValidationError

from hdapbench.errors import StoreError
from hdapbench.leaderboard.board import Gap, Leaderboard, Leads, Section
from hdapbench.leaderboard.cells import Cells
from hdapbench.leaderboard.labels import labels_of_briefs
from hdapbench.leaderboard.leads import leads_on
from hdapbench.leaderboard.rows import Table, dense_row
from hdapbench.leaderboard.warnings import board_warnings, fleet_warnings, section_warnings
from hdapbench.run.grid import fleet_hash
from hdapbench.spec import FleetSpec, RankingSpec, Spec
from hdapbench.store.brief import Brief, brief_of, without_collection
from hdapbench.store.sqlite import Benchmark
from hdapbench.trial import DENSE, Result, Status

COMPLETE = Status.COMPLETE.value


def build_leaderboard(benchmark: Benchmark, results: Iterable[Result]) -> Leaderboard:
    """Leaderboard of a registered spec from those of its trials that have results.

    Raises
    ------
    StoreError
        When the stored spec is of a version that this one does not know.
    """
    return build_from_briefs(benchmark, [brief_of(result) for result in results])


def build_from_briefs(benchmark: Benchmark, found: Sequence[Brief]) -> Leaderboard:
    """As `build_leaderboard`, from briefs of the results."""
    with without_collection():
        return _built(benchmark, found)


def _built(benchmark: Benchmark, found: Sequence[Brief]) -> Leaderboard:
    spec = _stored_spec(benchmark)
    labels = labels_of_briefs(found)
    dense: dict[str, Cells] = {}
    sections: list[Section] = []
    leads: list[Leads] = []
    of_fleet = _grouped(found, lambda brief: brief.fleet_hash)
    for fleet in spec.fleets:
        # By content: a result is shared by specs that call the same fleet by different names.
        here = of_fleet.get(fleet_hash(fleet), [])
        reference = {brief.seed: brief for brief in here if brief.method == DENSE and brief.numbers is not None}
        if reference:
            dense[fleet.name] = Cells(DENSE, reference)
        tables = _tables(spec, fleet, here, dense.get(fleet.name), labels)
        sections += [section for section, _ in tables]
        leads += leads_on(fleet.name, [table for _, table in tables], dense.get(fleet.name), _ranking(spec), spec)
    first = {fleet: next(iter(cells.by_seed.values())) for fleet, cells in dense.items()}
    environments = {brief.environment for brief in {b.environment_json: b for b in found}.values()}
    board = Leaderboard(
        name=benchmark.name,
        spec_hash=benchmark.spec_hash,
        spec=benchmark.spec,
        dense={fleet: dense_row(cells, spec.seeds) for fleet, cells in dense.items()},
        sections=tuple(sections),
        leads=tuple(leads),
        warnings=(),
        notes={fleet: brief.notes for fleet, brief in first.items()},
        environments=tuple(sorted(environments, key=str)),
        n_trials=len(benchmark.trial_ids),
        n_finished=len({brief.id for brief in found} & set(benchmark.trial_ids)),
        has_products=any(brief.numbers is not None and brief.numbers.product_flops > 0 for brief in found),
        n_images=next((brief.n_images for brief in found if brief.n_images is not None), None),
    )
    return replace(board, warnings=(*board_warnings(board), *fleet_warnings(found)))


def _grouped(briefs: Iterable[Brief], key: Callable[[Brief], str | None]) -> dict[str | None, list[Brief]]:
    groups: dict[str | None, list[Brief]] = {}
    for brief in briefs:
        groups.setdefault(key(brief), []).append(brief)
    return groups


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
    spec: Spec, fleet: FleetSpec, here: Sequence[Brief], dense: Cells | None, labels: dict[str, str]
) -> list[tuple[Section, Table]]:
    """Section of each target on a fleet, and what it was made of."""
    without = [brief for brief in here if brief.method == DENSE and brief.numbers is None]
    sources = set() if dense is None else _sources(dense.briefs)
    made = []
    for target, at_target in _grouped(here, lambda brief: brief.target).items():
        if not target:
            continue
        chosen = [*without, *at_target]
        flops = min((n.flops_target for b in chosen if (n := b.numbers) and n.flops_target is not None), default=None)
        chosen = [_within_limit(brief, flops) for brief in chosen]
        table = Table(target, _cells(chosen, labels), dense, spec.seeds, _ranking(spec))
        # Joined where measured met simulated, for they must not share a table unmarked.
        source = " and ".join(sorted(sources | _sources(chosen))) or "unknown"
        section = Section(fleet.name, target, flops, source, table.rule, table.rows(), _gaps(chosen, labels))
        made.append((replace(section, warnings=section_warnings(section)), table))
    return made


def _within_limit(brief: Brief, flops: int | None) -> Brief:
    """A brief as it is, or as infeasible where it is above the limit of its section: that is never ranked."""
    numbers = brief.numbers
    if numbers is None:
        return brief
    reason = None
    if flops is not None and numbers.flops > flops:
        reason = f"{numbers.flops:,} FLOPs, above the target of {flops:,}"
    elif numbers.target_share is not None and numbers.target_share > 1:
        reason = f"uses {numbers.target_share:.2%} of its target"
    return brief if reason is None else brief.without_numbers(Status.INFEASIBLE.value, reason)


def _cells(briefs: Sequence[Brief], labels: dict[str, str]) -> list[Cells]:
    """Briefs that have numbers, by row."""
    groups: dict[str, dict[int, Brief]] = {}
    for brief in briefs:
        if _has_numbers(brief):
            groups.setdefault(labels[brief.id], {})[brief.seed] = brief
    return [Cells(label, dict(sorted(by_seed.items()))) for label, by_seed in groups.items()]


def _gaps(briefs: Sequence[Brief], labels: dict[str, str]) -> tuple[Gap, ...]:
    gaps = [
        Gap(labels[brief.id], brief.seed, brief.status, brief.reason or "no reason given")
        for brief in briefs
        if not _has_numbers(brief)
    ]
    return tuple(sorted(gaps, key=lambda gap: (gap.label, gap.seed)))


def _has_numbers(brief: Brief) -> bool:
    return brief.status == COMPLETE and brief.numbers is not None


def _sources(briefs: Iterable[Brief]) -> set[str]:
    """``simulated`` or ``measured``, or both."""
    return {brief.numbers.latency_source for brief in briefs if brief.numbers is not None}
