"""``hdapbench compare A B``: two trials, two rows of a board, or two boards, in a sentence with numbers and a table."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdapbench.cli.options import add_workspace_options, existing_database, workspace_of
from hdapbench.cli.results.source import of_place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hdapbench.cli.results.source import Found
    from hdapbench.leaderboard.board import Leaderboard
    from hdapbench.run.workspace import Workspace
    from hdapbench.store.brief import Brief
    from hdapbench.store.sqlite import Store
    from hdapbench.trial import Result

HELP = (
    "a trial: its id, or the beginning; a row: NAME:LABEL, NAME:LABEL@TARGET or NAME:LABEL@TARGET@FLEET; "
    "a board: NAME, NAME@SPEC-HASH for an earlier version of its spec, or a file: one that board --output NAME.json "
    "wrote, or results (.jsonl.zst, or a folder of them)"
)


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser("compare", help="compare two trials, rows or boards", description=__doc__)
    parser.add_argument("first", metavar="A", help=HELP)
    parser.add_argument("second", metavar="B", help="another of the same kind")
    add_workspace_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print how the second differs from the first."""
    first, second = arguments.first, arguments.second
    if ":" in first and ":" in second:
        content, text = _rows(first, second, workspace_of(arguments))
    else:
        content, text = _whole(first, second, workspace_of(arguments))
    print(json.dumps(content, indent=2, allow_nan=False) if arguments.json else text)
    return 0


def _rows(first: str, second: str, workspace: Workspace) -> tuple[Any, str]:
    """Two rows of one board, at every target that both have."""
    from hdapbench.errors import StoreError
    from hdapbench.leaderboard.comparing import compare_rows
    from hdapbench.render.comparison import pair_text, pair_values
    from hdapbench.store.sqlite import open_store

    (name, _, one), (other_name, _, other) = first.partition(":"), second.partition(":")
    if name != other_name:
        raise StoreError(f"rows of two boards, '{name}' and '{other_name}': compare the boards, or trials by their ids")
    if (travelling := of_place(name)) is not None:
        board, briefs = _board(travelling), travelling.briefs
    else:
        with open_store(existing_database(workspace)) as store:
            board, briefs = _stored(store, name)
    pairs = compare_rows(briefs, board, one, other)
    return [pair_values(pair) for pair in pairs], "\n\n".join(map(pair_text, pairs))


def _whole(first: str, second: str, workspace: Workspace) -> tuple[Any, str]:
    """Two trials, or two boards."""
    from hdapbench.errors import StoreError
    from hdapbench.leaderboard.board import Leaderboard
    from hdapbench.leaderboard.comparing import compare_boards, compare_trials
    from hdapbench.render.comparison import changes_text, changes_values, pair_text, pair_values

    one, other = _found(first, workspace), _found(second, workspace)
    if isinstance(one, Leaderboard) and isinstance(other, Leaderboard):
        changes = compare_boards(one, other)
        return changes_values(changes), changes_text(changes, first, second)
    if isinstance(one, Leaderboard) or isinstance(other, Leaderboard):
        raise StoreError(f"'{first}' and '{second}' are a board and a trial; compare two of a kind")
    pair = compare_trials(one, other)
    return pair_values(pair), pair_text(pair)


def _found(text: str, workspace: Workspace) -> Leaderboard | Result:
    """What a name stands for: a file, a benchmark with or without the hash of its spec, or a trial."""
    from hdapbench.errors import StoreError
    from hdapbench.render.document import read_board
    from hdapbench.store.sqlite import open_store

    if ":" in text:
        raise StoreError(f"'{text}' is a row, and the other is none; compare two of a kind")
    if (travelling := of_place(text)) is not None:
        return _board(travelling)
    if text.endswith(".json"):
        return read_board(Path(text).read_text(encoding="utf-8", errors="replace"))
    if Path(text).suffix in {".md", ".csv", ".tex", ".html"}:
        raise StoreError(
            f"'{text}' holds a board for people; compare files of: hdapbench board NAME --output NAME.json"
        )
    name, _, spec_hash = text.partition("@")
    with open_store(existing_database(workspace)) as store:
        if name in store.benchmarks():
            return _stored(store, name, spec_hash or None)[0]
        return store.get(text)


def _board(found: Found) -> Leaderboard:
    from hdapbench.leaderboard.build import build_from_briefs

    return build_from_briefs(found.benchmark, found.briefs)


def _stored(store: Store, name: str, spec_hash: str | None = None) -> tuple[Leaderboard, Sequence[Brief]]:
    from hdapbench.errors import StoreError
    from hdapbench.leaderboard.build import build_from_briefs

    benchmark = store.benchmark(name, spec_hash=spec_hash)
    if spec_hash is not None and benchmark.spec_hash != spec_hash:
        raise StoreError(
            f"no spec of '{name}' has the hash '{spec_hash}'; the one registered last: {benchmark.spec_hash}"
        )
    briefs = store.briefs(trial_ids=benchmark.trial_ids)
    return build_from_briefs(benchmark, briefs), briefs
