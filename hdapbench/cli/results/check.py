"""``hdapbench results check [FOLDER]``: whether every board of a folder is what the results beside it render."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from hdapbench.cli.results.source import BOARDS, RESULTS, SUFFIX, results_beside
from hdapbench.errors import HdapbenchError, OutputError


def add_parser(actions: Any) -> None:
    """Add the action to the parser."""
    parser = actions.add_parser("check", help="compare boards with the results beside them", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=BOARDS, help="folder of boards (default: %(default)s)")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a line per board; 1 when one differs from its results, or results have no board."""
    folder: Path = arguments.folder
    if not folder.is_dir():
        raise OutputError(f"there is no folder '{folder}'; name the one of the boards")
    boards = {path.stem: path for path in sorted(folder.glob("*.md"))}
    results = {path.name.removesuffix(SUFFIX) for path in sorted((folder / RESULTS).glob(f"*{SUFFIX}"))}
    n_wrong = n_unchecked = 0
    for name in sorted({*boards, *results}):
        board = boards.get(name, folder / f"{name}.md")
        if name not in results:
            n_unchecked += 1
            print(f"{board}: cannot be checked until its spec is run again: it has no {RESULTS}/{name}{SUFFIX}")
            continue
        wrong = _what_is_wrong(board)
        n_wrong += wrong is not None
        print(f"{board}: {wrong or 'is what its results render'}")
    n_right = len(results) - n_wrong
    print(f"{n_right} right, {n_wrong} wrong, {n_unchecked} cannot be checked", file=sys.stderr)
    return 1 if n_wrong else 0


def _what_is_wrong(board: Path) -> str | None:
    from hdapbench.leaderboard.build import build_leaderboard
    from hdapbench.render.markdown import render_markdown
    from hdapbench.store.travel import read_travelling

    file = results_beside(board)
    try:
        found = read_travelling(file)
        text = render_markdown(build_leaderboard(found.benchmark, found.results))
    except HdapbenchError as error:
        return str(error)
    name = found.benchmark.name
    if not board.is_file():
        return f"is missing; write it with: hdapbench board {name} --results {file} --output {board}"
    if board.read_text(encoding="utf-8", errors="replace") != text:
        return f"differs from {file}; see how with: hdapbench board {name} --check --results {file} --output {board}"
    return None
