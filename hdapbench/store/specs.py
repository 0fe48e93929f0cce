"""Registered specs: what a database knows of the benchmarks whose results it holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hdapbench.errors import StoreError
from hdapbench.spec import did_you_mean
from hdapbench.store.checksums import benchmark_checksum
from hdapbench.store.connection import Connection

EXPLORING = -(2**40)
"""Specs of explorations are numbered from here on, below all others: the others are the ones that boards show."""


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


class Specs:
    """Specs that a database names trials of."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def connection(self) -> Connection:
        """For what works on whole databases."""
        return self._connection

    def register(
        self, name: str, *, spec_hash: str, spec_json: str, trial_ids: Sequence[str], explores: bool = False
    ) -> None:
        """Note a spec and its trials; the spec registered last is the one that boards show.

        Exploring changes nothing about a spec that was registered without, and is shown only where there is none.
        """
        connection = self._connection
        with connection.writing("specs"):  # the order of registration is read and written in one piece
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
            "SELECT spec_hash, checksum, registered < 0 FROM benchmark WHERE name = ?"
            " ORDER BY spec_hash = ? DESC, registered DESC LIMIT 1",
            (name, spec_hash or ""),
        ).fetchone()
        if row is None:
            known = self.benchmarks()
            hint = did_you_mean(name, known) if known else "; the database is empty, run a spec first"
            raise StoreError(f"no benchmark '{name}' in the database{hint}")
        if benchmark_checksum(self._connection, name, row[0]) != row[1]:
            raise StoreError(f"what the database holds of benchmark '{name}' is damaged; run its spec again")
        ids = self._connection.execute(
            "SELECT trial_id FROM benchmark_trial WHERE name = ? AND spec_hash = ? ORDER BY position", (name, row[0])
        )
        (text,) = self._connection.execute(
            "SELECT spec_json FROM benchmark WHERE name = ? AND spec_hash = ?", (name, row[0])
        ).fetchone()
        return Benchmark(name, row[0], json.loads(text), tuple(found[0] for found in ids), explores=bool(row[2]))

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
