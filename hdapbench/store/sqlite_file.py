"""SQLite: the results database of one machine, a file."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hdapbench.errors import StoreError
from hdapbench.store.migrations import MIGRATIONS, migrate
from hdapbench.store.network_folder import network_folder_kind

BUSY_SECONDS = 30.0


class SqliteConnection(sqlite3.Connection):
    """Connection to an SQLite file. See `Connection`."""

    path: Path

    @contextmanager
    def writing(self, lock: str = "", *, is_durable: bool = True) -> Iterator[None]:  # noqa: ARG002 - it has the file
        """Transaction that has the file to itself."""
        with self:
            self.execute("BEGIN IMMEDIATE")
            yield

    def locks_now(self, lock: str) -> bool:  # noqa: ARG002 - whoever writes has the file
        """Whether this transaction has the lock: always."""
        return True

    def rows_of(self, columns: str, table: str, trial_ids: Sequence[str], *, order: str = "") -> sqlite3.Cursor:
        """Columns of the rows of a table that are of some trials, in their order unless another is named."""
        statement = f"SELECT {columns} FROM json_each(?) AS wanted CROSS JOIN {table} ON trial_id = wanted.value"  # noqa: S608 - names in this room
        return self.execute(_ordered(statement, order), (json.dumps(list(trial_ids)),))

    def briefs(self, trial_ids: Sequence[str]) -> Iterable[tuple[str, bytes, bytes, bytes | None, bytes]]:
        """Id, content, samples, bits and checksum of stored briefs."""
        columns = (
            "trial_id, coalesce(CAST(content AS BLOB), x''), coalesce(CAST(samples AS BLOB), x''),"
            " CAST(bits AS BLOB), CAST(checksum AS BLOB)"
        )
        return self.rows_of(columns, "brief", trial_ids)

    def vacuum(self) -> None:
        """Make the file as small as its content."""
        self.execute("VACUUM")

    def size(self) -> int:
        """Bytes of the file's pages."""
        pages, of_page = (self.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        return int(pages * of_page)

    def damaged_pages(self) -> list[str]:
        """What SQLite's own check says, in at most ten lines."""
        return [line for (line,) in self.execute("PRAGMA quick_check(10)") if line != "ok"]

    def another(self) -> SqliteConnection:
        """New connection to the same file."""
        return connect(self.path)


def connect(path: Path) -> SqliteConnection:
    """Connection to a file, which is made when it is absent."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, factory=SqliteConnection, isolation_level=None)
    connection.path = path.absolute()
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _ordered(statement: str, order: str) -> str:
    return f"{statement} ORDER BY {order}" if order else statement


@contextmanager
def opened_file(path: Path) -> Iterator[SqliteConnection]:
    """Connection to a results database, made when it is absent.

    Raises
    ------
    StoreError
        When the file is no database of ours, or was written by a newer version.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = connect(path)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"the database '{path}' cannot be opened: {error}") from error
    try:
        _prepare(connection, path)
        yield connection
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
    _choose_journal(connection, path)
    if version < len(MIGRATIONS):
        migrate(connection)


def _schema(connection: sqlite3.Connection) -> tuple[int, int]:
    """Version of the schema and number of tables, read at one moment: another process may be migrating."""
    connection.execute("BEGIN")
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    n_tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    connection.rollback()
    return version, n_tables


def _choose_journal(connection: sqlite3.Connection, path: Path) -> None:
    """Write ahead, or where the folder may be that of several machines, keep a journal that is no shared memory."""
    kind = network_folder_kind(path)
    wanted = "WAL" if kind is None else "DELETE"
    try:
        found = _switched(connection, wanted)
    except sqlite3.OperationalError as error:
        if kind is None or "locked" not in str(error):
            raise
        found = "one that cannot be changed now"
    if kind is not None and found != wanted.lower():
        raise StoreError(
            f"'{path}' lies in a network folder ({kind}) and is open with a journal that only one machine can use; "
            "end the other runs first, or use --store postgresql+psycopg://HOST/DATABASE"
        )


def _switched(connection: sqlite3.Connection, journal: str) -> str:
    """Journal after the switch. SQLite's busy timeout does not cover it, so wait for another process's by hand."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return str(connection.execute(f"PRAGMA journal_mode = {journal}").fetchone()[0])
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
