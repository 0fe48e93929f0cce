"""``hdapbench board NAME``: the leaderboard as markdown, from the database alone."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import re
import sys
from pathlib import Path
from typing import Any

from hdapbench.cli.board_forms import SUFFIXES, write_picture_or_page
from hdapbench.cli.options import DEFAULT_WORKSPACE, existing_database
from hdapbench.cli.output import write_output


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser("board", help="render a leaderboard as markdown", description=__doc__)
    parser.add_argument("name", metavar="NAME|SPEC", help="name of a benchmark, or its spec file")
    parser.add_argument("--workspace", type=Path, default=DEFAULT_WORKSPACE, metavar="DIR", help="default: %(default)s")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write here instead of printing; .html is a page, .svg and .png are pictures of the front",
    )
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

    name, spec_hash = _wanted(arguments)
    with open_store(existing_database(arguments.workspace)) as store:
        benchmark = store.benchmark(name, spec_hash=spec_hash)
        results = store.results(trial_ids=benchmark.trial_ids)
        board = build_leaderboard(benchmark, results)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(board), indent=2, default=lambda value: value.model_dump(mode="json")))
        return 0
    if arguments.output is not None and arguments.output.suffix in SUFFIXES and not arguments.check:
        for path in write_picture_or_page(board, results, arguments.output):
            print(f"wrote {path}", file=sys.stderr)
        return 0
    text = render_markdown(board)
    if arguments.check:
        return _compare(text, arguments.output or Path("leaderboards") / f"{board.name}.md")
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
    compared = arguments.output or Path("leaderboards") / f"{name}.md"
    found = None
    if arguments.check and compared.is_file():
        found = re.search(r"content hash `([0-9a-f]{16})`", compared.read_text(encoding="utf-8", errors="replace"))
    return name, found and found[1]


def _compare(text: str, path: Path) -> int:
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
    print(
        f"{path} differs from the database; write it with: hdapbench board {path.stem} --output {path}", file=sys.stderr
    )
    return 1
