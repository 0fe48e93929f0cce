"""``hdapbench results import FILE...``: the results of files into the database, where they belong to what is there."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hdapbench.cli.options import add_workspace_options, workspace_of


def add_parser(actions: Any) -> None:
    """Add the action to the parser."""
    parser = actions.add_parser("import", help="add the results of files to the database", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="file that results export wrote")
    add_workspace_options(parser)
    add_keep_option(parser, ours="what the database holds")
    parser.add_argument(
        "--beside",
        action="store_true",
        help="take results of another spec too: the one that is registered under the name stays the one shown",
    )
    parser.set_defaults(handler=run)


def add_keep_option(parser: argparse.ArgumentParser, *, ours: str) -> None:
    """Add ``--keep``."""
    parser.add_argument(
        "--keep",
        choices=("ours", "theirs"),
        help=f"where the same trial has other numbers: ours is {ours}, theirs what is added (default: refuse)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Add the results of each file, and say how many were new."""
    from hdapbench.run.merging import take_in
    from hdapbench.store.sqlite import open_store
    from hdapbench.store.travel import read_travelling

    read = [read_travelling(file) for file in arguments.files]  # before anything is stored
    with open_store(workspace_of(arguments).database) as store:
        for file, theirs in zip(arguments.files, read, strict=True):
            found = take_in(store, theirs, keep=arguments.keep, beside=arguments.beside)
            n_same = len(theirs.results) - found.n_new - found.n_replaced
            print(f"{file}: {found.n_new} new, {found.n_replaced} replaced, {n_same} kept as they were")
    return 0
