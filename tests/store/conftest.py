from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hdapbench.store.place import Place, place_of
from tests.postgres import FAST, empty_schema, server


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a server that all tests of a process share."""
    with server(*FAST) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where there is no database yet: in both kinds."""
    if request.param == "sqlite":
        return tmp_path / "results.db"
    return place_of(empty_schema(request.getfixturevalue("postgres")))
