"""``hdapbench board NAME``: the leaderboard, from the database or from the results beside it, in any of its forms."""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from hdapbench.cli.board_forms import write_picture_or_page
from hdapbench.cli.forms import DRAWN, FORMS, form_of, rendered
from hdapbench.cli.options import add_workspace_options, workspace_of
from hdapbench.cli.output import write_output
from hdapbench.cli.results.source import BOARDS, Found, find_results, named_benchmark, of_place
from hdapbench.errors import OutputError


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser("board", help="render a leaderboard", description=__doc__)
    parser.add_argument(
        "name",
        metavar="NAME|SPEC|FILE",
        help="name of a benchmark, its spec file, or results: a .jsonl.zst file or a folder of them",
    )
    add_workspace_options(parser)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help=f"write here instead of printing; the form is that of its suffix: {', '.join((*FORMS, *DRAWN))}",
    )
    parser.add_argument("--format", choices=sorted(FORMS), help="form to print, or of a file of another suffix")
    parser.add_argument(
        "--check",
        action="store_true",
        help="compare with --output (default: leaderboards/NAME.md) and fail when it differs",
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="read these results (default: the database, else results/NAME.jsonl.zst beside the board)",
    )
    parser.add_argument("--json", dest="format", action="store_const", const="json", help="the same as --format json")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Render, print, write or compare; 1 when the compared file differs."""
    from hdapbench.leaderboard.build import build_from_briefs

    form = arguments.format or ("md" if arguments.output is None else form_of(arguments.output))
    found = _found(arguments)
    place = arguments.output or BOARDS / f"{found.benchmark.name}.md"
    board = build_from_briefs(found.benchmark, found.briefs)
    if arguments.output is not None and form in DRAWN:
        if arguments.check:
            raise OutputError(f"'{arguments.output}': pages and pictures are not compared; check the .md of the board")
        for file in write_picture_or_page(board, found.find, arguments.output):
            print(f"wrote {file}", file=sys.stderr)
        return 0
    text = rendered(board, form)
    lines = text.replace("\r\n", "\n")  # as files are read, and as a terminal wants them
    if arguments.check:
        words = ["hdapbench", "board", arguments.name, "--output", str(place)]
        return _compare(lines, place, found.origin, shlex.join([*words, *workspace_of(arguments).words]))
    if arguments.output is not None:
        write_output(arguments.output, text)
        print(f"wrote {arguments.output}", file=sys.stderr)
    else:
        sys.stdout.write(lines)
    return 0


def _found(arguments: argparse.Namespace) -> Found:
    """The results that are meant, with their benchmark."""
    if (found := of_place(arguments.name)) is not None:
        if arguments.results is not None:
            raise OutputError(f"'{arguments.name}' names results already; leave out --results")
        return found
    name, spec_hash = _wanted(arguments)
    place = arguments.output or BOARDS / f"{name}.md"
    return find_results(
        name, workspace=workspace_of(arguments), board=place, file=arguments.results, spec_hash=spec_hash
    )


def _wanted(arguments: argparse.Namespace) -> tuple[str, str | None]:
    """Name of a benchmark, and hash of the spec that is meant: that of a spec file, or of the board to compare with.

    None where neither is given: the spec that was registered last is meant.
    """
    name, spec_hash = named_benchmark(arguments.name)
    compared = arguments.output or BOARDS / f"{name}.md"
    found = None
    if arguments.check and spec_hash is None and compared.is_file():
        found = re.search(r"content hash `([0-9a-f]{16})`", compared.read_text(encoding="utf-8", errors="replace"))
    return name, found[1] if found else spec_hash


def _compare(text: str, path: Path, origin: str, again: str) -> int:
    committed = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    if committed == text:
        print(f"{path} is what {origin} renders")
        return 0
    difference = list(
        difflib.unified_diff(committed.splitlines(), text.splitlines(), str(path), origin, lineterm="", n=1)
    )
    print("\n".join(difference[:40]))
    if len(difference) > 40:
        print(f"... {len(difference) - 40} more lines")
    what = f"differs from {origin}" if path.exists() else "is not there"
    print(f"{path} {what}; write it with: {again}", file=sys.stderr)
    return 1
