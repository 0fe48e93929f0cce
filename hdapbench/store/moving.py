"""Everything that a database holds, copied row by row into another, of whichever kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hdapbench.errors import StoreError
from hdapbench.store.checksums import benchmark_checksum, result_checksum
from hdapbench.store.connection import Connection
from hdapbench.store.specs import Registered
from hdapbench.store.sqlite import Store

TOGETHER = 200
"""Results of one transaction."""

_COLUMNS = {
    "result": "trial_id, benchmark, method, target, fleet, seed, status, reason, accuracy, latency_ms, flops, content,"
    " checksum",
    "device_latency": "trial_id, device, cluster, weight, run, latency_ms",
    "brief": "trial_id, content, samples, bits, checksum",
}

Keep = Literal["ours", "theirs"]


@dataclass(frozen=True)
class Damaged:
    """What a database holds that is not what was stored.

    Attributes
    ----------
    trial_ids
        Of results.
    specs
        Names of benchmarks whose registered spec is damaged, each once.
    """

    trial_ids: tuple[str, ...]
    specs: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.trial_ids or self.specs)


@dataclass(frozen=True)
class Copied:
    """What was copied, and what was not: results that were there already, and what is damaged where it came from."""

    n_results: int
    n_kept: int
    n_specs: int
    damaged: Damaged


def damaged(store: Store) -> Damaged:
    """What is damaged of all that a database holds."""
    specs = {spec.name: None for spec in store.registered() if not _is_whole(store.connection, spec)}
    return Damaged(store.damaged(sorted(store.trial_ids())), tuple(specs))


def copy_all(source: Store, target: Store, *, keep: Keep | None = None) -> Copied:
    """Add all that a database holds to another, whose own benchmarks stay the ones shown.

    Parameters
    ----------
    keep
        Where both hold other results of a trial: ``ours`` leaves those of the target, ``theirs`` replaces them.

    Raises
    ------
    StoreError
        When both do and ``keep`` is None: nothing has been copied then.
    """
    broken = damaged(source)
    found = _checksums(source, sorted(source.trial_ids() - set(broken.trial_ids)))
    there = _checksums(target, list(found))
    differing = [i for i in there if there[i] != found[i]]
    if differing and keep is None:
        raise StoreError(
            f"both databases hold results of {len(differing)} trials, and they differ: {', '.join(differing[:6])}"
            f"{', ...' if len(differing) > 6 else ''}; name which stay with --keep ours or --keep theirs"
        )
    wanted = [i for i in found if i not in there or (keep == "theirs" and there[i] != found[i])]
    for start in range(0, len(wanted), TOGETHER):
        _copy_results(source.connection, target.connection, wanted[start : start + TOGETHER])
    return Copied(len(wanted), len(found) - len(wanted), _copy_specs(source, target), broken)


def _checksums(store: Store, trial_ids: Sequence[str]) -> dict[str, str]:
    """Id -> checksum of those trials that have a whole result."""
    whole = store.finished(trial_ids, include_failed=True)
    rows = dict(store.connection.rows_of("trial_id, checksum", "result", list(whole)).fetchall())
    return {trial_id: rows[trial_id] for trial_id in whole}


def _copy_results(source: Connection, target: Connection, trial_ids: Sequence[str]) -> None:
    with target.writing("results"):
        target.executemany("DELETE FROM result WHERE trial_id = ?", [(trial_id,) for trial_id in trial_ids])
        for table, columns in _COLUMNS.items():
            places = ", ".join("?" * len(columns.split(",")))
            statement = f"INSERT INTO {table} ({columns}) VALUES ({places})"  # noqa: S608 - names of this module
            target.executemany(statement, source.rows_of(columns, table, trial_ids).fetchall())
        stored = dict(target.rows_of("trial_id, checksum", "result", trial_ids).fetchall())
        for trial_id in trial_ids:
            if result_checksum(target, trial_id) != stored.get(trial_id):
                raise StoreError(f"the result of trial {trial_id} was changed while it was copied; copy again")


def _copy_specs(source: Store, target: Store) -> int:
    there = target.registered()
    shown = {spec.name: spec for spec in reversed(there) if not spec.explores}
    known = {(spec.name, spec.spec_hash) for spec in there}
    new = [spec for spec in reversed(source.registered()) if (spec.name, spec.spec_hash) not in known]
    whole = [spec for spec in new if _is_whole(source.connection, spec)]
    for spec in whole:
        _register(source, target, spec)
    for spec in reversed(there):  # in the order in which they were registered
        if shown.get(spec.name) is spec and spec.name in {other.name for other in whole}:
            _register(target, target, spec)
    return len(whole)


def _register(source: Store, target: Store, spec: Registered) -> None:
    key = (spec.name, spec.spec_hash)
    (text,) = source.connection.execute(
        "SELECT spec_json FROM benchmark WHERE name = ? AND spec_hash = ?", key
    ).fetchone()
    ids = source.benchmark(spec.name, spec_hash=spec.spec_hash).trial_ids
    target.register(spec.name, spec_hash=spec.spec_hash, spec_json=text, trial_ids=ids, explores=spec.explores)


def _is_whole(connection: Connection, spec: Registered) -> bool:
    key = (spec.name, spec.spec_hash)
    (checksum,) = connection.execute("SELECT checksum FROM benchmark WHERE name = ? AND spec_hash = ?", key).fetchone()
    return bool(benchmark_checksum(connection, *key) == checksum)
