"""``hdapbench explain TRIAL``: what a method decided for a trial, and why."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdapbench.cli.options import add_workspace_options, existing_database, workspace_of
from hdapbench.cli.output import write_output

if TYPE_CHECKING:
    from hdapbench.leaderboard.comparing import Rival
    from hdapbench.store.sqlite import Store
    from hdapbench.trial import Result


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser("explain", help="say what a method decided, and why", description=__doc__)
    parser.add_argument("trial", metavar="TRIAL", help="id of a trial, or its beginning (hdapbench show lists them)")
    add_workspace_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with pictures instead")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a trial's decisions beside what was measured."""
    from hdapbench.render.account import explanation, explanation_text
    from hdapbench.store.sqlite import open_store

    with open_store(existing_database(workspace_of(arguments))) as store:
        result = store.get(arguments.trial)
        content = explanation(result, *_rivals(store, result))
    if arguments.html is not None:
        from hdapbench.render.page import explanation_page

        write_output(arguments.html, explanation_page(content))
        print(f"wrote {arguments.html}")
        return 0
    print(json.dumps(content, indent=2) if arguments.json else explanation_text(content))
    return 0


def _rivals(store: Store, result: Result) -> tuple[list[Rival], Result | None]:
    """What a trial is told against, where its benchmark is registered; and the dense model."""
    from hdapbench.leaderboard.build import build_leaderboard
    from hdapbench.leaderboard.comparing import rivals_of

    if result.trial.benchmark not in store.benchmarks():
        return [], None
    benchmark = store.benchmark(result.trial.benchmark)
    found = store.results(trial_ids=benchmark.trial_ids)
    return rivals_of(result, build_leaderboard(benchmark, found), found)
