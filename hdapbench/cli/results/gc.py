"""``hdapbench results gc``: results, artifacts and caches that no registered benchmark names, removed."""

from __future__ import annotations

import argparse
from typing import Any

from hdapbench.cli.options import add_workspace_options, existing_database, workspace_of
from hdapbench.cli.results.rm import add_dry_run_option, tell


def add_parser(actions: Any) -> None:
    """Add the action to the parser."""
    parser = actions.add_parser("gc", help="remove what no registered benchmark names", description=__doc__)
    add_workspace_options(parser)
    parser.add_argument(
        "--former", action="store_true", help="keep only the spec shown under each name, none from before it was edited"
    )
    parser.add_argument(
        "--caches", action="store_true", help="remove caches of data, exports and models too: they are made again"
    )
    add_dry_run_option(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Remove, and say how much that frees."""
    from hdapbench.run.removal import unnamed
    from hdapbench.store.sqlite import open_store

    with open_store(existing_database(workspace_of(arguments))) as store:
        workspace = workspace_of(arguments)
        found = unnamed(store, workspace, former=not arguments.former, caches=arguments.caches)
        tell(found, dry_run=arguments.dry_run)
        if not arguments.dry_run:
            found.carry_out(store)
    return 0
