"""``hdapbench board NAME``: the leaderboard as markdown, from the database alone."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from hdapbench.cli.options import DEFAULT_WORKSPACE, board_of, check_board_file, existing_database
from hdapbench.cli.output import write_output


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser("board", help="render a leaderboard as markdown", description=__doc__)
    parser.add_argument("name", metavar="NAME|SPEC", help="name of a benchmark, or its spec file")
    parser.add_argument("--workspace", type=Path, default=DEFAULT_WORKSPACE, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write here instead of printing")
    parser.add_argument(
        "--check",
        action="store_true",
        help="compare with --output (default: leaderboards/NAME.md) and fail when it differs",
    )
    parser.add_argument("--json", action="store_true", help="print the board as JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Render, print, write or compare; 1 when the compared file differs."""
    from hdapbench.leaderboard.build import build_leaderboard
    from hdapbench.render.markdown import render_markdown
    from hdapbench.store.sqlite import open_store

    if arguments.output is not None:
        check_board_file(arguments.output)
    name, spec_hash = _wanted(arguments)
    with open_store(existing_database(arguments.workspace)) as store:
        benchmark = store.benchmark(name, spec_hash=spec_hash)
        board = build_leaderboard(benchmark, store.results(trial_ids=benchmark.trial_ids))
    if arguments.json:
        print(json.dumps(dataclasses.asdict(board), indent=2, default=lambda value: value.model_dump(mode="json")))
        return 0
    text = render_markdown(board)
    if arguments.check:
        return _compare(text, arguments.output or board_of(board.name), arguments)
    if arguments.output is not None:
        write_output(arguments.output, text)
        print(f"wrote {arguments.output}", file=sys.stderr)
    else:
        sys.stdout.write(text)
    return 0


def _wanted(arguments: argparse.Namespace) -> tuple[str, str | None]:
    """Name of a benchmark, and hash of the spec that is meant: that of a spec file, or of the board to compare with.

    None where neither is given: the spec that was registered last is meant.
    """
    name: str = arguments.name
    if name.endswith((".yaml", ".yml")):
        from hdapbench.run.grid import named_by_content
        from hdapbench.spec import load, spec_hash

        spec = named_by_content(load(name))
        return spec.name, spec_hash(spec)
    compared = arguments.output or board_of(name)
    found = None
    if arguments.check and compared.is_file():
        found = re.search(r"content hash `([0-9a-f]{16})`", compared.read_text(encoding="utf-8", errors="replace"))
    return name, found and found[1]


def _compare(text: str, path: Path, arguments: argparse.Namespace) -> int:
    committed = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    if committed == text:
        print(f"{path} is what the database renders")
        return 0
    difference = list(
        difflib.unified_diff(committed.splitlines(), text.splitlines(), str(path), "database", lineterm="", n=1)
    )
    print("\n".join(difference[:40]))
    if len(difference) > 40:
        print(f"... {len(difference) - 40} more lines")
    words = ["hdapbench", "board", arguments.name, "--output", str(path)]
    if arguments.workspace != DEFAULT_WORKSPACE:
        words += ["--workspace", str(arguments.workspace)]
    what = "differs from the database" if path.exists() else "is not there"
    print(f"{path} {what}; write it with: {shlex.join(words)}", file=sys.stderr)
    return 1
