"""``hdapbench results summary [FOLDER]``: one method against the best of its rivals on every board, as markdown."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hdapbench.cli.results.source import BOARDS, RESULTS, SUFFIX
from hdapbench.errors import OutputError


def add_parser(actions: Any) -> None:
    """Add the action to the parser."""
    parser = actions.add_parser("summary", help="one method against its best rival on every board", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=BOARDS, help="folder of boards (default: %(default)s)")
    parser.add_argument("--method", default="hdap", metavar="NAME", help="whose lead it is (default: %(default)s)")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the table.

    Raises
    ------
    OutputError
        When the folder has no results.
    """
    from hdapbench.leaderboard.summary import ordered, standings
    from hdapbench.render.summary import render_summary
    from hdapbench.store.brief import brief_of
    from hdapbench.store.travel import read_travelling

    files = sorted((arguments.folder / RESULTS).glob(f"*{SUFFIX}"))
    if not files:
        raise OutputError(f"there are no results in '{arguments.folder / RESULTS}'; a run of a spec writes them")
    found = []
    for file in files:
        held = read_travelling(file)
        found += standings(held.benchmark, [brief_of(result) for result in held.results], arguments.method)
    print(render_summary(ordered(found), arguments.method), end="")
    return 0
