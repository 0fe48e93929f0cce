"""Place of a results database: the path of an SQLite file, or a PostgreSQL server and database by URL."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from hdapbench.errors import StoreError

VARIABLE = "HDAPBENCH_STORE"
_POSTGRES = re.compile(r"postgres(?:ql)?(?:\+(?P<driver>\w+))?://", re.IGNORECASE)
_SQLITE = re.compile(r"sqlite:///(?P<path>.+)", re.IGNORECASE)
_USER_PART = re.compile(r"(?<=://)(?P<user>[^:@/?]*):(?P<password>.*)@")
_PARAMETER = re.compile(r"(?P<name>[?&](?:ssl)?password=)(?P<password>[^&]*)")


@dataclass(frozen=True)
class Postgres:
    """A database of a PostgreSQL server, such as ``postgresql+psycopg://host/results``.

    As text it has no password: what is printed, stored or logged of it cannot tell one.

    Attributes
    ----------
    url
        With the password, if it has one.
    """

    url: str = field(repr=False)

    @property
    def plain_url(self) -> str:
        """The URL as PostgreSQL's own programs take it."""
        return _POSTGRES.sub("postgresql://", self.url, count=1)

    def without_password(self, text: str) -> str:
        """A text, such as an error of the driver, without the URL's password wherever it stands in it."""
        found = [match["password"] for pattern in (_USER_PART, _PARAMETER) for match in pattern.finditer(self.url)]
        for secret in sorted({*found, *map(unquote, found)} - {""}, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def exists(self) -> bool:
        """Whether there is something to open: only the server can tell."""
        return True

    def __str__(self) -> str:
        hidden = _USER_PART.sub(lambda match: f"{match['user']}:***@", self.url)
        return _PARAMETER.sub(lambda match: f"{match['name']}***", hidden)

    __repr__ = __str__


Place = Path | Postgres


def place_of(text: str) -> Place:
    """Place that a text names: a URL, or the path of an SQLite file.

    Raises
    ------
    StoreError
        When it is a URL of another kind.
    """
    if found := _POSTGRES.match(text):
        if found["driver"] not in (None, "psycopg"):
            raise StoreError(f"'{Postgres(text)}': the driver is psycopg; write postgresql+psycopg://HOST/DATABASE")
        return Postgres(text)
    if found := _SQLITE.fullmatch(text):
        return Path(found["path"])
    if re.match(r"\w[\w+.-]*:/", text):
        kind = text.partition(":")[0]
        raise StoreError(
            f"a store of kind '{kind}' is not known; "
            "name a file, sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"
        )
    return Path(text)


def named_place(text: str | None) -> Place | None:
    """Place that a text names, or else the environment variable; None where neither does.

    Raises
    ------
    StoreError
        As `place_of`.
    """
    text = text or os.environ.get(VARIABLE)
    return place_of(text) if text else None
