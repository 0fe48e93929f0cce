"""PostgreSQL: the results database of a team, on a server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from hdapbench.errors import StoreError
from hdapbench.store.connection import Rows
from hdapbench.store.migrations import MIGRATIONS
from hdapbench.store.place import Postgres

CONNECT_SECONDS = 20
TABLES = ("benchmark", "benchmark_trial", "result", "device_latency", "brief", "claim")
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
_LOCK_NOW = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))"
_TYPES = (
    ("TEXT", 'TEXT COLLATE "C"'),
    ("INTEGER", "BIGINT"),
    ("REAL", "DOUBLE PRECISION"),
    ("BLOB", "BYTEA"),
    ("json_valid(content)", "content::json IS NOT NULL"),
    (" STRICT", ""),
)
"""SQLite's words in definitions of tables -> PostgreSQL's, with the same values and the same order of text."""


class PostgresConnection:
    """Connection to a database of a server. See `Connection`."""

    Error = psycopg.Error

    def __init__(self, place: Postgres) -> None:
        self._place = place
        self._raw = psycopg.connect(autocommit=True, **_settings(place))

    def execute(self, statement: str, parameters: Sequence[Any] = (), /) -> Rows:
        """Carry out a statement."""
        return self._raw.execute(_translated(statement), parameters)

    def executemany(self, statement: str, parameters: Iterable[Sequence[Any]], /) -> Rows:
        """Carry out a statement with each of several parameters, without waiting for each."""
        cursor = self._raw.cursor()
        cursor.executemany(_translated(statement), parameters)
        return cursor

    @contextmanager
    def writing(self, lock: str = "", *, is_durable: bool = True) -> Iterator[None]:
        """Transaction that waits for others with the same lock; they wait where one is read."""
        with self._raw.pipeline(), self._raw.transaction():
            if not is_durable:
                self._raw.execute("SET LOCAL synchronous_commit = off")
            if lock:
                self._raw.execute(_LOCK, (f"hdapbench {lock}",))
            yield

    def locks_now(self, lock: str) -> bool:
        """Whether this transaction has the lock, without waiting for another that has it."""
        return bool(self._raw.execute(_LOCK_NOW, (f"hdapbench {lock}",)).fetchone() == (True,))

    def rows_of(self, columns: str, table: str, trial_ids: Sequence[str], *, order: str = "") -> Rows:
        """Columns of the rows of a table that are of some trials."""
        statement = f"SELECT {columns} FROM {table} WHERE trial_id = ANY(?)"  # noqa: S608 - names in this room
        return self.execute(f"{statement} ORDER BY {order}" if order else statement, (list(trial_ids),))

    def briefs(self, trial_ids: Sequence[str]) -> Iterable[tuple[str, bytes, bytes, bytes | None, bytes]]:
        """Id, content, samples, bits and checksum of stored briefs."""
        columns = "trial_id, convert_to(content, 'UTF8'), samples, bits, convert_to(checksum, 'UTF8')"
        return self.rows_of(columns, "brief", trial_ids)

    def vacuum(self) -> None:
        """Let what was deleted be overwritten."""
        for table in TABLES:
            self.execute(f"VACUUM {table}")

    def size(self) -> int:
        """Bytes of tables and indices."""
        sizes = "SELECT coalesce(sum(pg_total_relation_size(to_regclass(name))), 0) FROM unnest(?::text[]) AS name"
        return int(self.execute(sizes, (list(TABLES),)).fetchone()[0])

    def damaged_pages(self) -> list[str]:
        """Nothing: the server sees to its own pages, and refuses to read a damaged one."""
        return []

    def another(self) -> PostgresConnection:
        """New connection to the same database."""
        return PostgresConnection(self._place)

    def close(self) -> None:
        """End the connection."""
        self._raw.close()


@contextmanager
def opened_database(place: Postgres) -> Iterator[PostgresConnection]:
    """Connection to a results database, whose tables are made when they are absent.

    Raises
    ------
    StoreError
        When the server cannot be reached or refuses, or the tables were written by a newer version.
    """
    try:
        connection = PostgresConnection(place)
    except psycopg.Error as error:
        raise StoreError(f"the database '{place}' cannot be opened: {_said(place, error)}") from None
    try:
        _prepare(connection, place)
        yield connection
    except psycopg.Error as error:
        raise StoreError(f"the database '{place}' cannot be used: {_said(place, error)}") from None
    finally:
        connection.close()


def _settings(place: Postgres) -> dict[str, Any]:
    found = conninfo_to_dict(place.plain_url)
    return {"connect_timeout": CONNECT_SECONDS, "application_name": "hdapbench", **found}


def _said(place: Postgres, error: Exception) -> str:
    return place.without_password(" ".join(str(error).split()))


def _prepare(connection: PostgresConnection, place: Postgres) -> None:
    version = _version(connection)
    if version > len(MIGRATIONS):
        raise StoreError(
            f"'{place}' was written by a newer hdapbench (schema {version}, this one knows {len(MIGRATIONS)}); "
            "upgrade with: pip install --upgrade hdapbench"
        )
    if version < len(MIGRATIONS):
        migrate(connection, place)


def migrate(connection: PostgresConnection, place: Postgres) -> None:
    """Bring a database to the newest schema, in one transaction.

    Raises
    ------
    StoreError
        When another program's tables are in the way.
    """
    with connection.writing("schema"):
        version = _version(connection)  # again: another process may have migrated meanwhile
        if version == 0:
            if _has_table(connection, "result"):
                raise StoreError(f"'{place}' has tables of another program; choose another database or schema")
            connection.execute("CREATE TABLE hdapbench_schema (version INTEGER NOT NULL)")
            connection.execute("INSERT INTO hdapbench_schema VALUES (0)")
        for step in MIGRATIONS[version:]:
            step(connection)
        connection.execute("UPDATE hdapbench_schema SET version = ?", (len(MIGRATIONS),))


def _version(connection: PostgresConnection) -> int:
    """Version of the schema; 0 where there is none yet."""
    if not _has_table(connection, "hdapbench_schema"):
        return 0
    return int(connection.execute("SELECT version FROM hdapbench_schema").fetchone()[0])


def _has_table(connection: PostgresConnection, name: str) -> bool:
    """Whether there is such a table where new ones go. Unlike ``to_regclass``, this sees one made a moment ago."""
    tables = "SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = ?"
    return connection.execute(tables, (name,)).fetchone() is not None


@cache
def _translated(statement: str) -> bytes:
    if statement.lstrip().startswith(("CREATE TABLE", "ALTER TABLE")):
        for ours, theirs in _TYPES:
            statement = statement.replace(ours, theirs)
    return statement.replace("?", "%s").encode()
