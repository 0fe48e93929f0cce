"""Checksums of rows: what was stored and what the file now holds are the same, or the row is damaged."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from typing import Any

from hdapbench.store.connection import Connection

_RESULT = (
    "SELECT trial_id, benchmark, method, target, fleet, seed, status, reason, accuracy, latency_ms, flops, content"
    " FROM result WHERE trial_id = ?"
)
_LATENCIES = (
    "SELECT device, cluster, weight, run, latency_ms FROM device_latency WHERE trial_id = ? ORDER BY device, run"
)
_SPEC = "SELECT name, spec_hash, spec_json FROM benchmark WHERE name = ? AND spec_hash = ?"
_TRIALS = "SELECT trial_id FROM benchmark_trial WHERE name = ? AND spec_hash = ? ORDER BY position"


def result_checksum(connection: Connection, trial_id: str) -> str | None:
    """Checksum of a trial's result and latencies as the database holds them; None where they cannot even be read."""
    return _checksum(connection, (_RESULT, _LATENCIES), (trial_id,))


def benchmark_checksum(connection: Connection, name: str, spec_hash: str) -> str | None:
    """Checksum of a registered spec and its trials as the database holds them; None where they cannot be read."""
    return _checksum(connection, (_SPEC, _TRIALS), (name, spec_hash))


def _checksum(connection: Connection, queries: Iterable[str], key: tuple[Any, ...]) -> str | None:
    try:
        rows = [connection.execute(query, key).fetchall() for query in queries]
    except sqlite3.OperationalError as error:
        if "decode" in str(error):  # bytes that are no text
            return None
        raise
    return hashlib.sha256(repr(rows).encode(errors="backslashreplace")).hexdigest()[:32]
