"""A PostgreSQL server of the tests' own, on a socket in a temporary folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

ACCOUNTS = ("postgres", "nobody")
"""Whoever is root runs the server as one of these: PostgreSQL refuses to be run by root."""

numbers = count(1)


def program(name: str) -> str:
    """Path of one of PostgreSQL's programs; Debian keeps them off the path."""
    found = shutil.which(name) or max(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), default=None)
    if found is None:
        pytest.skip(f"'{name}' of PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return str(Path(found).resolve())


@contextmanager
def server(*settings: str) -> Iterator[str]:
    """URL of a new server, without a database's name."""
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    program("initdb")
    account = next((name for name in ACCOUNTS if os.geteuid() == 0 and _exists(name)), None)
    prefix = ["setpriv", f"--reuid={account}", f"--regid={_group(account)}", "--clear-groups"] if account else []
    if account:
        shutil.chown(folder, account)
    data = folder / "data"

    def carry_out(name: str, *arguments: str) -> None:
        command = [*prefix, program(name), "-D", str(data), *arguments]
        with (folder / "log").open("a") as log:
            done = subprocess.run(command, cwd=folder, stdout=log, stderr=log, env=os.environ | {"LC_ALL": "C.UTF-8"})
        assert done.returncode == 0, (folder / "log").read_text()[-2000:]

    options = f"-k {folder} -c listen_addresses= " + " ".join(f"-c {setting}" for setting in settings)
    try:
        carry_out("initdb", "-U", "team", "-A", "trust", "-E", "UTF8", "--no-sync")
        carry_out("pg_ctl", "-w", "-t", "300", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://team@/postgres?host={folder}"
        finally:
            carry_out("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def empty_schema(url: str) -> str:
    """URL of a schema of that database that holds nothing yet."""
    import psycopg

    name = f"t{next(numbers)}"
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
    return f"{url}&options=-csearch_path%3D{name}"


FAST: Sequence[str] = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=40")


def _exists(account: str) -> bool:
    return subprocess.run(["id", account], capture_output=True).returncode == 0  # noqa: S607


def _group(account: str | None) -> str:
    return subprocess.run(["id", "-g", str(account)], capture_output=True, text=True).stdout.strip()  # noqa: S607
