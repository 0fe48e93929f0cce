"""Checksums of rows: what was stored and what the file now holds are the same, or the row is damaged."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from hdapbench.store.connection import Connection

RESULT = "trial_id, benchmark, method, target, fleet, seed, status, reason, accuracy, latency_ms, flops, content"
LATENCY = "device, cluster, weight, run, latency_ms"
_SPEC = "SELECT name, spec_hash, spec_json FROM benchmark WHERE name = ? AND spec_hash = ?"
_TRIALS = "SELECT trial_id FROM benchmark_trial WHERE name = ? AND spec_hash = ? ORDER BY position"


def result_checksums(connection: Connection, trial_ids: Sequence[str]) -> dict[str, str]:
    """Trial id -> checksum of its result and latencies as the database holds them; without those that are no text."""
    if not trial_ids:
        return {}
    results, latencies = dict[str, list[Any]](), dict[str, list[Any]]()
    try:
        for row in connection.rows_of(RESULT, "result", trial_ids):
            results[row[0]] = [tuple(row)]
        rows = connection.rows_of(f"trial_id, {LATENCY}", "device_latency", trial_ids, order="device, run")
        for trial_id, *row in rows:
            latencies.setdefault(trial_id, []).append(tuple(row))
    except sqlite3.OperationalError as error:
        if "decode" not in str(error):  # bytes that are no text
            raise
        if len(trial_ids) == 1:
            return {}
        middle = len(trial_ids) // 2
        return result_checksums(connection, trial_ids[:middle]) | result_checksums(connection, trial_ids[middle:])
    return {trial_id: _hash([result, latencies.get(trial_id, [])]) for trial_id, result in results.items()}


def result_checksum(connection: Connection, trial_id: str) -> str | None:
    """Checksum of one trial; None where it has no result, or one that is no text."""
    return result_checksums(connection, [trial_id]).get(trial_id)


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
    return _hash(rows)


def _hash(rows: list[list[Any]]) -> str:
    return hashlib.sha256(repr(rows).encode(errors="backslashreplace")).hexdigest()[:32]
