"""Numbered migrations of the results database: named functions in a list, applied in order, never edited.

They are written in SQLite's words; `hdapbench.store.postgres` translates those of definitions.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import cast

from hdapbench.store.checksums import benchmark_checksum, result_checksum
from hdapbench.store.connection import Connection


def m001_benchmarks_results_and_latencies(connection: Connection) -> None:
    """Create specs with their trials, one row per finished trial, and the raw repeats per device."""
    for statement in (
        """
        CREATE TABLE benchmark (
            name TEXT NOT NULL,
            spec_hash TEXT NOT NULL,
            spec_json TEXT NOT NULL,
            registered INTEGER NOT NULL,
            PRIMARY KEY (name, spec_hash)
        ) STRICT
        """,
        """
        CREATE TABLE benchmark_trial (
            name TEXT NOT NULL,
            spec_hash TEXT NOT NULL,
            position INTEGER NOT NULL,
            trial_id TEXT NOT NULL,
            PRIMARY KEY (name, spec_hash, position),
            FOREIGN KEY (name, spec_hash) REFERENCES benchmark (name, spec_hash) ON DELETE CASCADE
        ) STRICT
        """,
        """
        CREATE TABLE result (
            trial_id TEXT PRIMARY KEY,
            benchmark TEXT NOT NULL,
            method TEXT NOT NULL,
            target TEXT,
            fleet TEXT NOT NULL,
            seed INTEGER NOT NULL,
            status TEXT NOT NULL,
            reason TEXT,
            accuracy REAL CHECK (accuracy IS NULL OR accuracy BETWEEN 0 AND 1),
            latency_ms REAL CHECK (latency_ms IS NULL OR (latency_ms > 0 AND latency_ms < 9e99)),
            flops INTEGER,
            content TEXT NOT NULL CHECK (json_valid(content)),
            CHECK (status = 'complete' OR reason IS NOT NULL)
        ) STRICT
        """,
        """
        CREATE TABLE device_latency (
            trial_id TEXT NOT NULL REFERENCES result (trial_id) ON DELETE CASCADE,
            device TEXT NOT NULL,
            cluster INTEGER NOT NULL,
            weight REAL NOT NULL CHECK (weight BETWEEN 0 AND 1),
            run INTEGER NOT NULL,
            latency_ms REAL NOT NULL CHECK (latency_ms > 0 AND latency_ms < 9e99),
            PRIMARY KEY (trial_id, device, run)
        ) STRICT
        """,
        """
        CREATE INDEX result_by_benchmark ON result (benchmark, method)
        """,
    ):
        connection.execute(statement)


def m002_checksums(connection: Connection) -> None:
    """Add checksums to results and specs; those of before are taken as they are."""
    connection.execute("ALTER TABLE result ADD COLUMN checksum TEXT")
    connection.execute("ALTER TABLE benchmark ADD COLUMN checksum TEXT")
    for (trial_id,) in connection.execute("SELECT trial_id FROM result").fetchall():
        found = result_checksum(connection, trial_id)
        connection.execute("UPDATE result SET checksum = ? WHERE trial_id = ?", (found, trial_id))
    for name, spec_hash in connection.execute("SELECT name, spec_hash FROM benchmark").fetchall():
        found = benchmark_checksum(connection, name, spec_hash)
        connection.execute(
            "UPDATE benchmark SET checksum = ? WHERE name = ? AND spec_hash = ?", (found, name, spec_hash)
        )


def m003_briefs(connection: Connection) -> None:
    """Create briefs of results, which boards are built from; those of older results are made when asked for."""
    connection.execute(
        """
        CREATE TABLE brief (
            trial_id TEXT PRIMARY KEY REFERENCES result (trial_id) ON DELETE CASCADE,
            content TEXT NOT NULL,
            samples BLOB NOT NULL,
            bits BLOB,
            checksum TEXT NOT NULL
        ) STRICT
        """
    )


def m004_claims(connection: Connection) -> None:
    """Create claims: which worker has which trial."""
    connection.execute(
        """
        CREATE TABLE claim (
            trial_id TEXT PRIMARY KEY,
            owner TEXT NOT NULL,
            host TEXT NOT NULL,
            pid INTEGER NOT NULL,
            started TEXT NOT NULL,
            beat INTEGER NOT NULL
        ) STRICT
        """
    )
    connection.execute("CREATE INDEX claim_by_owner ON claim (owner)")


MIGRATIONS: list[Callable[[Connection], None]] = [
    m001_benchmarks_results_and_latencies,
    m002_checksums,
    m003_briefs,
    m004_claims,
]
"""Version n of the schema is reached by the first n entries."""


def migrate(connection: sqlite3.Connection) -> None:
    """Bring an SQLite file to the newest schema, in one transaction: a kill leaves the old schema or the new."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read again inside the transaction: another process may have migrated meanwhile.
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        for step in MIGRATIONS[version:]:
            step(cast(Connection, connection))
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
