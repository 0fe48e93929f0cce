"""Store: results in an SQLite file. Adds, finds and counts; ranks and prints nothing."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hdapbench.errors import StoreError
from hdapbench.spec import did_you_mean
from hdapbench.store.brief import Brief, brief_of, store_briefs, stored_briefs
from hdapbench.store.checksums import benchmark_checksum, result_checksum
from hdapbench.store.claims import LEASE_SECONDS, Claims, Owner, release
from hdapbench.store.migrations import MIGRATIONS, migrate
from hdapbench.trial import DeviceLatency, Result, Status

BUSY_SECONDS = 30.0
EXPLORING = -(2**40)
"""Specs of explorations are numbered from here on, below all others: the others are the ones that boards show."""

DONE = frozenset({Status.COMPLETE, Status.SKIPPED, Status.INFEASIBLE})
"""Statuses that a second run would not change."""


@dataclass(frozen=True)
class Benchmark:
    """A registered spec: its content, the ids of its trials, in order, and whether a run only explored with it."""

    name: str
    spec_hash: str
    spec: dict[str, Any]
    trial_ids: tuple[str, ...]
    explores: bool = False


@dataclass(frozen=True)
class Registered:
    """A registered spec, whether a run only explored with it, and the ids of its trials."""

    name: str
    spec_hash: str
    explores: bool
    trial_ids: set[str]


@contextmanager
def open_store(path: Path) -> Iterator[Store]:
    """Store in an SQLite file, made when it is absent.

    Raises
    ------
    StoreError
        When the file is no database of ours, or was written by a newer version.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"the database '{path}' cannot be opened: {error}") from error
    try:
        _prepare(connection, path)
        yield Store(connection, path.absolute())
    except sqlite3.OperationalError as error:
        raise StoreError(f"the database '{path}' cannot be used: {error}") from error
    except sqlite3.DatabaseError as error:
        raise StoreError(f"'{path}' is not a results database, or is damaged: {error}") from error
    finally:
        connection.close()


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    try:
        version, n_tables = _schema(connection)
    except UnicodeDecodeError as error:  # SQLite quotes what it cannot parse, whatever bytes those are
        raise sqlite3.DatabaseError("its schema is malformed") from error
    if version > len(MIGRATIONS):
        raise StoreError(
            f"'{path}' was written by a newer hdapbench (schema {version}, this one knows {len(MIGRATIONS)}); "
            "upgrade with: pip install --upgrade hdapbench"
        )
    if version == 0 and n_tables:
        raise StoreError(f"'{path}' is an SQLite database of another program; choose another --workspace")
    _use_write_ahead_log(connection)
    connection.execute("PRAGMA foreign_keys = ON")
    if version < len(MIGRATIONS):
        migrate(connection)


def _schema(connection: sqlite3.Connection) -> tuple[int, int]:
    """Version of the schema and number of tables, read at one moment: another process may be migrating."""
    connection.execute("BEGIN")
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    n_tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    connection.rollback()
    return version, n_tables


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch to WAL. SQLite's busy timeout does not cover the switch, so wait for another process's by hand."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


class Store:
    """Results of trials, and the specs that name them. Use `open_store`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path

    def register(
        self, name: str, *, spec_hash: str, spec_json: str, trial_ids: Sequence[str], explores: bool = False
    ) -> None:
        """Note a spec and its trials; the spec registered last is the one that boards show.

        Exploring changes nothing about a spec that was registered without, and is shown only where there is none.
        """
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")  # the order of registration is read and written in one piece
            if explores and (name, spec_hash) in connection.execute(
                "SELECT name, spec_hash FROM benchmark WHERE registered > 0"
            ):
                return
            latest = connection.execute(
                "SELECT coalesce(max(registered), ?) FROM benchmark WHERE (registered < 0) = ?",
                (EXPLORING if explores else 0, explores),
            ).fetchone()[0]
            connection.execute(
                "INSERT INTO benchmark (name, spec_hash, spec_json, registered) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (name, spec_hash)"
                " DO UPDATE SET spec_json = excluded.spec_json, registered = excluded.registered",
                (name, spec_hash, spec_json, latest + 1),
            )
            connection.execute("DELETE FROM benchmark_trial WHERE name = ? AND spec_hash = ?", (name, spec_hash))
            connection.executemany(
                "INSERT INTO benchmark_trial VALUES (?, ?, ?, ?)",
                [(name, spec_hash, position, trial_id) for position, trial_id in enumerate(trial_ids)],
            )
            connection.execute(
                "UPDATE benchmark SET checksum = ? WHERE name = ? AND spec_hash = ?",
                (benchmark_checksum(connection, name, spec_hash), name, spec_hash),
            )

    def benchmarks(self) -> tuple[str, ...]:
        """Names of all registered benchmarks, the one registered last first."""
        rows = self._connection.execute("SELECT name FROM benchmark GROUP BY name ORDER BY max(registered) DESC, name")
        return tuple(row[0] for row in rows)

    def benchmark(self, name: str, *, spec_hash: str | None = None) -> Benchmark:
        """Spec of this name that was registered last; that of a hash, if it is asked for and there.

        Raises
        ------
        StoreError
            When there is none, or it is damaged.
        """
        row = self._connection.execute(
            "SELECT spec_hash, CAST(spec_json AS BLOB), checksum, registered < 0 FROM benchmark WHERE name = ?"
            " ORDER BY spec_hash = ? DESC, registered DESC LIMIT 1",
            (name, spec_hash or ""),
        ).fetchone()
        if row is None:
            known = self.benchmarks()
            hint = did_you_mean(name, known) if known else "; the database is empty, run a spec first"
            raise StoreError(f"no benchmark '{name}' in the database{hint}")
        if benchmark_checksum(self._connection, name, row[0]) != row[2]:
            raise StoreError(f"what the database holds of benchmark '{name}' is damaged; run its spec again")
        ids = self._connection.execute(
            "SELECT trial_id FROM benchmark_trial WHERE name = ? AND spec_hash = ? ORDER BY position", (name, row[0])
        )
        return Benchmark(name, row[0], json.loads(row[1]), tuple(found[0] for found in ids), explores=bool(row[3]))

    def registered(self) -> list[Registered]:
        """All specs that are registered; of those of a name, the first is the one that boards show."""
        rows = self._connection.execute(
            "SELECT name, spec_hash, registered < 0 FROM benchmark ORDER BY registered DESC"
        )
        ids = "SELECT trial_id FROM benchmark_trial WHERE name = ? AND spec_hash = ?"
        return [
            Registered(
                name, spec_hash, bool(explores), {i for (i,) in self._connection.execute(ids, (name, spec_hash))}
            )
            for name, spec_hash, explores in rows.fetchall()
        ]

    def trial_ids(self) -> set[str]:
        """Ids of all trials that have a result, damaged ones too."""
        return {trial_id for (trial_id,) in self._connection.execute("SELECT trial_id FROM result")}

    def remove(self, trial_ids: Iterable[str], specs: Iterable[Registered]) -> None:
        """Remove results and registered specs, and give back the room that they took."""
        with self._connection as connection:
            connection.executemany("DELETE FROM result WHERE trial_id = ?", [(trial_id,) for trial_id in trial_ids])
            connection.executemany(
                "DELETE FROM benchmark WHERE name = ? AND spec_hash = ?",
                [(spec.name, spec.spec_hash) for spec in specs],
            )
        self._connection.execute("VACUUM")

    def claims(self, owner: Owner, lease_seconds: float = LEASE_SECONDS) -> Claims:
        """Claims of a worker."""
        return Claims(
            self._connection,
            connect=lambda: sqlite3.connect(self._path, timeout=BUSY_SECONDS),
            ended=self._ended,
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
        trial, metrics = result.trial, result.metrics
        row = (
            trial.id,
            trial.benchmark,
            trial.method,
            trial.target,
            trial.fleet,
            trial.seed,
            result.status.value,
            result.reason,
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
            with self._connection as connection:
                connection.execute("BEGIN IMMEDIATE")  # what is there is read and replaced in one piece
                if owner is not None:
                    release(connection, owner, [trial.id])
                if result.status not in DONE and self.finished([trial.id]):
                    return
                connection.execute("DELETE FROM result WHERE trial_id = ?", (trial.id,))
                connection.execute("INSERT INTO result VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)", row)
                connection.executemany("INSERT INTO device_latency VALUES (?, ?, ?, ?, ?, ?)", samples)
                checksum = result_checksum(connection, trial.id)
                connection.execute("UPDATE result SET checksum = ? WHERE trial_id = ?", (checksum, trial.id))
                store_briefs(connection, [brief_of(result)])
        except sqlite3.Error as error:
            raise StoreError(f"the result of {trial} cannot be stored: {error}") from error

    def finished(self, trial_ids: Sequence[str], *, include_failed: bool = False) -> dict[str, Status]:
        """Status of those trials that are done, in the order asked for; failed and timed-out ones only on request.

        Damaged results are none, whatever is asked for.
        """
        known = self._checksums(trial_ids)
        ids = [trial_id for trial_id in trial_ids if trial_id in known and self._is_whole(trial_id, known[trial_id])]
        found = {trial_id: self._status(trial_id) for trial_id in ids}
        return {trial_id: status for trial_id, status in found.items() if include_failed or status in DONE}

    def damaged(self, trial_ids: Sequence[str]) -> tuple[str, ...]:
        """Those trials whose stored result is not what was stored, in the order asked for."""
        known = self._checksums(trial_ids)
        return tuple(
            trial_id for trial_id in trial_ids if trial_id in known and not self._is_whole(trial_id, known[trial_id])
        )

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
            with self._connection as connection:
                store_briefs(connection, made.values())
        found |= made
        return [found[trial_id] for trial_id in trial_ids if trial_id in found]

    def _ended(self, trial_ids: Sequence[str]) -> set[str]:
        """Those trials that have a whole result; unlike `finished`, this takes as long in a large database."""
        known = dict(self._connection.execute(_CHECKSUMS, (json.dumps(list(trial_ids)),)).fetchall())
        return {trial_id for trial_id, checksum in known.items() if self._is_whole(trial_id, checksum)}

    def _checksums(self, trial_ids: Sequence[str]) -> dict[str, str | None]:
        """Id of every trial that is stored -> the checksum that its result was stored with."""
        found = dict(self._connection.execute(_CHECKSUMS, (json.dumps(list(trial_ids)),)))
        if len(found) < len(set(trial_ids)):  # not stored, or lost by a damaged index: the table itself tells
            found = dict(self._connection.execute("SELECT trial_id, checksum FROM result"))
        return found

    def _is_whole(self, trial_id: str, checksum: str | None) -> bool:
        return checksum is not None and result_checksum(self._connection, trial_id) == checksum

    def _status(self, trial_id: str) -> Status:
        return Status(
            self._connection.execute("SELECT status FROM result WHERE trial_id = ?", (trial_id,)).fetchone()[0]
        )

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


_CHECKSUMS = "SELECT trial_id, checksum FROM json_each(?) AS wanted CROSS JOIN result ON result.trial_id = wanted.value"


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
