"""``hdapbench results history NAME [FILE...]``: rank and numbers of every row over versions of a board's results."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdapbench.cli.options import whole_number
from hdapbench.cli.results.source import BOARDS, results_beside
from hdapbench.errors import StoreError, printable

if TYPE_CHECKING:
    from hdapbench.leaderboard.board import Leaderboard

Versions = list[tuple[str, "Leaderboard"]]
"""What a version is called, and its board; the oldest first."""


def add_parser(actions: Any) -> None:
    """Add the action to the parser."""
    parser = actions.add_parser("history", help="show how rows changed over versions", description=__doc__)
    parser.add_argument("name", metavar="NAME", help="name of a benchmark")
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="versions, the oldest first (default: those of leaderboards/results/NAME.jsonl.zst in git)",
    )
    parser.add_argument("--last", type=whole_number, default=4, metavar="N", help="versions shown (default: 4)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a table per target: one line per row, one column per version."""
    from hdapbench.leaderboard.build import build_leaderboard
    from hdapbench.store.travel import parse_travelling

    versions = []
    for version, content in _contents(arguments):
        read = parse_travelling(content, version)
        if read.benchmark.name != arguments.name:
            raise StoreError(f"'{version}' holds results of '{read.benchmark.name}', not of '{arguments.name}'")
        versions.append((version, build_leaderboard(read.benchmark, read.results)))
    tables = _tables(versions)
    if arguments.json:
        print(json.dumps({"versions": [version for version, _ in versions], "tables": tables}, indent=2))
    else:
        _print(tables, [version for version, _ in versions])
    return 0


def _contents(arguments: argparse.Namespace) -> Iterator[tuple[str, bytes]]:
    """Name and content of every version that is shown."""
    if arguments.files:
        for file in arguments.files[-arguments.last :]:
            try:
                yield str(file), file.read_bytes()
            except OSError as error:
                raise StoreError(f"the results '{file}' cannot be read: {error.strerror or error}") from error
        return
    path = results_beside(BOARDS / f"{arguments.name}.md").as_posix()
    log = _git("log", f"--max-count={arguments.last}", "--diff-filter=AM", "--format=%h %cs", "--", path).decode()
    if not log.strip():
        raise StoreError(f"git knows no version of '{path}'; commit it, or name files of results")
    for line in reversed(log.splitlines()):
        commit, _, day = line.partition(" ")
        yield f"{day} {commit}", _git("show", f"{commit}:./{path}")


def _git(*arguments: str) -> bytes:
    program = shutil.which("git")
    if program is None:
        raise StoreError("git is not installed; name files of results instead")
    done = subprocess.run([program, *arguments], capture_output=True, check=False)  # noqa: S603 - no shell, fixed words
    if done.returncode:
        raise StoreError(f"git: {printable(done.stderr.decode(errors='replace').strip())[:200]}")
    return done.stdout


def _tables(versions: Versions) -> dict[str, dict[str, list[dict[str, Any] | None]]]:
    """Fleet and target -> row -> its rank and numbers in each version, None where it is not there."""
    tables: dict[str, dict[str, list[dict[str, Any] | None]]] = {}
    for place, (_, board) in enumerate(versions):
        for section in board.sections:
            rows = tables.setdefault(f"{section.target} on {section.fleet}", {})
            for row in section.rows:
                cells = rows.setdefault(row.label, [None] * len(versions))
                cells[place] = {"rank": row.rank, "latency_ms": row.latency_ms.value, "accuracy": row.accuracy.value}
    return tables


def _print(tables: dict[str, dict[str, list[dict[str, Any] | None]]], versions: list[str]) -> None:
    for title, rows in tables.items():
        lines = [[title, *versions]]
        lines += [[label, *map(_cell, cells)] for label, cells in rows.items()]
        widths = [max(len(line[column]) for line in lines) for column in range(len(versions) + 1)]
        for line in lines:
            cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
            print(printable("  ".join(cells).rstrip()))
        print()


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    rank = "-" if found["rank"] is None else found["rank"]
    return f"{rank:>2}  {found['latency_ms']:.4g} ms  {found['accuracy']:.2%}"
