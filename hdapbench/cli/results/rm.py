"""``hdapbench results rm NAME|TRIAL...``: benchmarks, or results of single trials, out of the database."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from hdapbench.cli.options import add_workspace_options, existing_database, workspace_of

if TYPE_CHECKING:
    from hdapbench.run.removal import Removal


def add_parser(actions: Any) -> None:
    """Add the action to the parser."""
    parser = actions.add_parser("rm", help="remove benchmarks or trials from the database", description=__doc__)
    parser.add_argument(
        "names", nargs="+", metavar="NAME|TRIAL", help="name of a benchmark, or id of a trial, or its beginning"
    )
    add_workspace_options(parser)
    add_dry_run_option(parser)
    parser.set_defaults(handler=run)


def add_dry_run_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--dry-run``."""
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")


def run(arguments: argparse.Namespace) -> int:
    """Remove, and say how much. Results that another benchmark names too stay."""
    from hdapbench.run.removal import of_names
    from hdapbench.store.sqlite import open_store

    with open_store(existing_database(workspace_of(arguments))) as store:
        found = of_names(store, workspace_of(arguments), arguments.names)
        tell(found, dry_run=arguments.dry_run)
        if not arguments.dry_run:
            found.carry_out(store)
    return 0


def tell(found: Removal, *, dry_run: bool) -> None:
    """Print what is removed, and how much that frees."""
    verb = "would remove" if dry_run else "removed"
    for path in found.paths:
        print(f"{verb} {path}")
    print(
        f"{verb} {len(found.specs)} specs, {len(found.trial_ids)} results and {len(found.paths)} files or folders: "
        f"{found.n_bytes / 1e6:,.1f} MB"
    )
