"""Store: results in a database. Adds, finds and counts; ranks and prints nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

from pydantic import ValidationError

from hdapbench.errors import MissingExtraError, StoreError
from hdapbench.store.brief import Brief, brief_of, store_briefs, stored_briefs
from hdapbench.store.checksums import result_checksum, result_checksums
from hdapbench.store.claims import LEASE_SECONDS, Claims, Owner, release
from hdapbench.store.place import Place, Postgres
from hdapbench.store.specs import Benchmark, Registered, Specs
from hdapbench.store.sqlite_file import opened_file
from hdapbench.trial import DeviceLatency, Result, Status

__all__ = ["DONE", "Benchmark", "Registered", "Store", "open_store"]

DONE = frozenset({Status.COMPLETE, Status.SKIPPED, Status.INFEASIBLE})
"""Statuses that a second run would not change."""

TOGETHER = 200
"""Results whose checksums are computed together."""


@contextmanager
def open_store(place: Place) -> Iterator[Store]:
    """Store at a place, made when it is absent.

    Raises
    ------
    StoreError
        When it is no database of ours, cannot be reached, or was written by a newer version.
    """
    if isinstance(place, Postgres):
        with _postgres().opened_database(place) as connection:
            yield Store(connection)
    else:
        with opened_file(place) as file:
            yield Store(file)


def _postgres() -> ModuleType:
    try:
        import hdapbench.store.postgres
    except ModuleNotFoundError as error:
        raise MissingExtraError("psycopg", "postgres", "a store in PostgreSQL") from error
    return hdapbench.store.postgres


class Store(Specs):
    """Results of trials, and the specs that name them. Use `open_store`."""

    def trial_ids(self) -> set[str]:
        """Ids of all trials that have a result, damaged ones too."""
        return {trial_id for (trial_id,) in self._connection.execute("SELECT trial_id FROM result")}

    def remove(self, trial_ids: Iterable[str], specs: Iterable[Registered]) -> None:
        """Remove results and registered specs, and give back the room that they took."""
        connection = self._connection
        with connection.writing():
            connection.executemany("DELETE FROM result WHERE trial_id = ?", [(trial_id,) for trial_id in trial_ids])
            connection.executemany(
                "DELETE FROM benchmark WHERE name = ? AND spec_hash = ?",
                [(spec.name, spec.spec_hash) for spec in specs],
            )
        connection.vacuum()

    def claims(self, owner: Owner, lease_seconds: float = LEASE_SECONDS) -> Claims:
        """Claims of a worker."""
        return Claims(
            self._connection,
            whole=lambda trial_ids: self._whole(trial_ids, scans=False),
            owner=owner,
            lease_seconds=lease_seconds,
        )

    def add(self, result: Result, *, owner: Owner | None = None) -> None:
        """Store a result and its raw latencies in one transaction; the latest result of a trial wins.

        A failure never takes the place of what is done: of two runs of a trial at once one may have been disturbed.
        The same transaction gives back the claim of the ``owner``.

        Raises
        ------
        StoreError
            When the database refuses it, such as for a latency that is not positive.
        """
        connection, trial, metrics = self._connection, result.trial, result.metrics
        row = (
            trial.id,
            trial.benchmark,
            trial.method,
            trial.target,
            trial.fleet,
            trial.seed,
            result.status.value,
            result.reason and result.reason.replace("\0", "\ufffd"),  # PostgreSQL holds no zeros in text
            metrics.accuracy if metrics else None,
            metrics.latency_ms if metrics else None,
            metrics.flops if metrics else None,
            result.model_dump_json(exclude={"devices"}),
        )
        samples = [
            (trial.id, latency.device, latency.cluster, latency.weight, number, sample)
            for latency in result.devices
            for number, sample in enumerate(latency.samples_ms)
        ]
        try:
            with connection.writing(trial.id):  # what is there is read and replaced in one piece
                if owner is not None:
                    release(connection, owner, [trial.id])
                if result.status not in DONE and self._is_done(trial.id):
                    return
                connection.execute("DELETE FROM result WHERE trial_id = ?", (trial.id,))
                connection.execute("INSERT INTO result VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)", row)
                connection.executemany("INSERT INTO device_latency VALUES (?, ?, ?, ?, ?, ?)", samples)
                checksum = result_checksum(connection, trial.id)
                connection.execute("UPDATE result SET checksum = ? WHERE trial_id = ?", (checksum, trial.id))
                store_briefs(connection, [brief_of(result)])
        except connection.Error as error:
            raise StoreError(f"the result of {trial} cannot be stored: {error}") from error

    def finished(self, trial_ids: Sequence[str], *, include_failed: bool = False) -> dict[str, Status]:
        """Status of those trials that are done, in the order asked for; failed and timed-out ones only on request.

        Damaged results are none, whatever is asked for.
        """
        whole = self._whole(trial_ids)
        statuses = self._statuses([trial_id for trial_id, is_whole in whole.items() if is_whole])
        return {trial_id: status for trial_id, status in statuses.items() if include_failed or status in DONE}

    def damaged(self, trial_ids: Sequence[str]) -> tuple[str, ...]:
        """Those trials whose stored result is not what was stored, in the order asked for."""
        whole = self._whole(trial_ids)
        return tuple(trial_id for trial_id in trial_ids if not whole.get(trial_id, True))

    def results(self, *, trial_ids: Sequence[str]) -> list[Result]:
        """Results of the trials that have one, in the order asked for.

        Raises
        ------
        StoreError
            When some are damaged, or of a newer version: all are named.
        """
        _refuse(self.damaged(trial_ids))
        return [result for trial_id in trial_ids if (result := self._result(trial_id)) is not None]

    def briefs(self, *, trial_ids: Sequence[str]) -> list[Brief]:
        """What boards take of the results of the trials that have one, in the order asked for.

        They are whole even where the raw result has been damaged since it was stored; `damaged` tells that. What was
        stored by an older version, or is itself damaged, is made again from the result.

        Raises
        ------
        StoreError
            When such a result is damaged, or of a newer version.
        """
        found = stored_briefs(self._connection, trial_ids)
        missing = [trial_id for trial_id in dict.fromkeys(trial_ids) if trial_id not in found]
        _refuse(self.damaged(missing))
        made = {trial_id: brief_of(result) for trial_id in missing if (result := self._result(trial_id)) is not None}
        if made:
            with self._connection.writing("briefs"):
                store_briefs(self._connection, made.values())
        found |= made
        return [found[trial_id] for trial_id in trial_ids if trial_id in found]

    def _whole(self, trial_ids: Sequence[str], *, scans: bool = True) -> dict[str, bool]:
        """Id of every trial that is stored, in the order asked for -> whether it is what was stored.

        What is not found is looked for in the whole table, in case an index is damaged, unless that takes too long.
        """
        ids = list(dict.fromkeys(trial_ids))
        stored = dict(self._connection.rows_of("trial_id, checksum", "result", ids).fetchall())
        if scans and len(stored) < len(ids):
            stored = dict(self._connection.execute("SELECT trial_id, checksum FROM result").fetchall())
        ids = [trial_id for trial_id in ids if trial_id in stored]
        found: dict[str, str] = {}
        for start in range(0, len(ids), TOGETHER):
            found |= result_checksums(self._connection, ids[start : start + TOGETHER])
        return {trial_id: stored[trial_id] is not None and found.get(trial_id) == stored[trial_id] for trial_id in ids}

    def _is_done(self, trial_id: str) -> bool:
        whole = self._whole([trial_id], scans=False)
        return whole.get(trial_id, False) and self._statuses([trial_id])[trial_id] in DONE

    def _statuses(self, trial_ids: Sequence[str]) -> dict[str, Status]:
        found = dict(self._connection.rows_of("trial_id, status", "result", trial_ids).fetchall())
        return {trial_id: Status(found[trial_id]) for trial_id in trial_ids}

    def get(self, prefix: str) -> Result:
        """Find the result of the trial whose id begins with ``prefix``.

        Raises
        ------
        StoreError
            When none or several do.
        """
        rows = self._connection.execute(
            "SELECT trial_id FROM result WHERE substr(trial_id, 1, ?) = ? ORDER BY trial_id LIMIT 6",
            (len(prefix), prefix),
        ).fetchall()
        if not rows or not prefix:
            raise StoreError(f"no trial whose id begins with '{prefix}'; list them with: hdapbench show BENCHMARK")
        if len(rows) > 1:
            raise StoreError(
                f"several trials begin with '{prefix}': {', '.join(row[0] for row in rows)}; write more of it"
            )
        (result,) = self.results(trial_ids=[rows[0][0]])
        return result

    def _result(self, trial_id: str) -> Result | None:
        row = self._connection.execute("SELECT content FROM result WHERE trial_id = ?", (trial_id,)).fetchone()
        if row is None:
            return None
        samples = self._connection.execute(
            "SELECT device, cluster, weight, latency_ms FROM device_latency WHERE trial_id = ?"
            " ORDER BY cluster, device, run",
            (trial_id,),
        )
        return _read_result(trial_id, row[0], samples)


def _read_result(trial_id: str, content: str, samples: Iterable[tuple[str, int, float, float]]) -> Result:
    by_device: dict[tuple[str, int, float], list[float]] = {}
    for device, cluster, weight, latency in samples:
        by_device.setdefault((device, cluster, weight), []).append(latency)
    devices = tuple(
        DeviceLatency(device=device, cluster=cluster, weight=weight, samples_ms=tuple(values))
        for (device, cluster, weight), values in by_device.items()
    )
    try:
        return Result.model_validate_json(content).model_copy(update={"devices": devices})
    except ValidationError as error:
        raise StoreError(
            f"the result of trial {trial_id} was written by a newer hdapbench ({_first(error)}); "
            "upgrade with: pip install --upgrade hdapbench"
        ) from error


def _refuse(damaged: Sequence[str]) -> None:
    if damaged:
        raise StoreError(
            f"the stored results of {len(damaged)} trials are damaged: {', '.join(damaged)}; "
            "run their spec again, which redoes them"
        )


def _first(error: ValidationError) -> str:
    """The first thing that this version does not know."""
    details = error.errors()[0]
    return f"{'.'.join(map(str, details['loc']))}: {details['msg']}"
