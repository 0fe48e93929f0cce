"""``hdapbench results pages [FOLDER]``: the page of every board of a folder, from its results, and their index."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hdapbench.cli.board_forms import write_index, write_picture_or_page
from hdapbench.cli.results.source import BOARDS, RESULTS, SUFFIX
from hdapbench.errors import OutputError


def add_parser(actions: Any) -> None:
    """Add the action to the parser."""
    parser = actions.add_parser("pages", help="write the pages of all boards, and index.html", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=BOARDS, help="folder of boards (default: %(default)s)")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Write a page per file of results, and the index over them.

    Raises
    ------
    OutputError
        When the folder has no results.
    """
    from hdapbench.leaderboard.build import build_leaderboard
    from hdapbench.store.travel import read_travelling

    folder: Path = arguments.folder
    files = sorted((folder / RESULTS).glob(f"*{SUFFIX}"))
    if not files:
        raise OutputError(f"there are no results in '{folder / RESULTS}'; a run of a spec writes them")
    boards = []
    for file in files:
        found = read_travelling(file)
        boards.append(build_leaderboard(found.benchmark, found.results))
        for path in write_picture_or_page(boards[-1], found.results, folder / f"{boards[-1].name}.html"):
            print(f"wrote {path}")
    print(f"wrote {write_index(boards, folder)}")
    return 0
