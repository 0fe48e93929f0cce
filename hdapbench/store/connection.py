"""Connection: what the store asks of a database. Statements are written once; what databases differ in is here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Rows(Protocol):
    """What a statement found."""

    def fetchone(self) -> Any:
        """Next row as a tuple; None when there is none."""

    def fetchall(self) -> list[Any]:
        """All rows that are left, as tuples."""

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection to a results database.

    Statements are what SQLite and PostgreSQL share of SQL, with ``?`` for parameters. Text is ordered by its bytes.
    Each statement outside of `writing` is a transaction of its own.
    """

    @property
    def Error(self) -> type[Exception]:  # noqa: N802 - its name in every driver
        """What the driver raises."""

    def execute(self, statement: str, parameters: Sequence[Any] = ..., /) -> Rows:
        """Carry out a statement."""

    def executemany(self, statement: str, parameters: Iterable[Sequence[Any]], /) -> Rows:
        """Carry out a statement with each of several parameters."""

    def writing(self, lock: str = "", *, is_durable: bool = True) -> AbstractContextManager[None]:
        """Transaction: what is done in it is stored as a whole or not at all.

        Of those with an equal ``lock``, where one is given, each sees what the one before it has done. What need not
        be durable may be lost when the machine stops, as a whole.
        """

    def locks_now(self, lock: str) -> bool:
        """Whether this transaction has the lock, without waiting for another that has it."""

    def rows_of(self, columns: str, table: str, trial_ids: Sequence[str], *, order: str = "") -> Rows:
        """Columns of the rows of a table that are of some trials."""

    def briefs(self, trial_ids: Sequence[str]) -> Iterable[tuple[str, bytes, bytes, bytes | None, bytes]]:
        """Id, content, samples, bits and checksum of stored briefs, as bytes even where they are damaged."""

    def vacuum(self) -> None:
        """Give back the room of what was deleted."""

    def size(self) -> int:
        """Bytes that the database takes."""

    def damaged_pages(self) -> list[str]:
        """What is wrong with how rows are kept, where the database can tell; checksums tell of what is in them."""

    def another(self) -> Connection:
        """New connection to the same database, for another thread."""

    def close(self) -> None:
        """End the connection."""
