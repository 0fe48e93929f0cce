"""``hdapbench store check|vacuum|export|import``: the whole database, of a workspace or of a team."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from hdapbench.cli.options import add_workspace_options, existing_database, workspace_of
from hdapbench.cli.results.taking import add_keep_option

if TYPE_CHECKING:
    from hdapbench.store.moving import Copied, Damaged
    from hdapbench.store.place import Place


def add_parser(subparsers: Any) -> None:
    """Add the command and its actions to the parser."""
    parser = subparsers.add_parser(
        "store",
        help="check, vacuum, export and import the whole database",
        description=__doc__,
        epilog="Start with: hdapbench store check",
    )
    parser.set_defaults(handler=lambda _: _help(parser))
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    for name, handler, text in (
        ("check", check, "say which results and specs are damaged"),
        ("vacuum", vacuum, "give back the room of what was removed"),
        ("export", export, "copy everything into another database"),
        ("import", import_, "copy everything of another database into this one"),
    ):
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name in ("export", "import"):
            action.add_argument("place", metavar="URL|FILE", help="the other database: see --store")
            add_keep_option(action, ours="what the database holds that is copied into")
        add_workspace_options(action)
        action.set_defaults(handler=handler)


def check(arguments: argparse.Namespace) -> int:
    """Print what is damaged; 1 when something is."""
    from hdapbench.store.moving import damaged
    from hdapbench.store.sqlite import open_store

    with open_store(existing_database(workspace_of(arguments))) as store:
        found, pages = damaged(store), store.connection.damaged_pages()
        n_results, n_specs = len(store.trial_ids()), len(store.registered())
    _tell_damage(found)
    for line in pages:
        print(f"the file is damaged: {line}; copy what is whole with: hdapbench store export FILE")
    n_damaged = len(found.trial_ids) + len(found.specs)
    print(f"{n_results} results, {n_specs} registered specs, {n_damaged} damaged", file=sys.stderr)
    return 1 if found or pages else 0


def vacuum(arguments: argparse.Namespace) -> int:
    """Make the database small, and say how small."""
    from hdapbench.store.sqlite import open_store

    with open_store(existing_database(workspace_of(arguments))) as store:
        before = store.connection.size()
        store.connection.vacuum()
        print(f"{before / 1e6:.1f} MB before, {store.connection.size() / 1e6:.1f} MB now")
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Copy into the other database; 1 when something was damaged and stayed behind."""
    from hdapbench.store.place import place_of

    return _copied(arguments, existing_database(workspace_of(arguments)), place_of(arguments.place))


def import_(arguments: argparse.Namespace) -> int:
    """Copy out of the other database; 1 when something was damaged and stayed behind."""
    from hdapbench.errors import StoreError
    from hdapbench.store.place import place_of

    source = place_of(arguments.place)
    if not source.exists():
        raise StoreError(f"there is no database '{source}'; name its file or URL")
    return _copied(arguments, source, workspace_of(arguments).database)


def _copied(arguments: argparse.Namespace, source: Place, target: Place) -> int:
    from hdapbench.errors import StoreError
    from hdapbench.store.moving import copy_all
    from hdapbench.store.sqlite import open_store

    if source == target:
        raise StoreError(f"'{source}' is the database itself; name another one")
    with open_store(source) as ours, open_store(target) as theirs:
        found: Copied = copy_all(ours, theirs, keep=arguments.keep)
    _tell_damage(found.damaged)
    print(f"{target}: {found.n_results} results and {found.n_specs} specs copied, {found.n_kept} results were there")
    return 1 if found.damaged else 0


def _tell_damage(found: Damaged) -> None:
    for trial_id in found.trial_ids:
        print(f"the result of trial {trial_id} is damaged; run its spec again, which redoes it")
    for name in found.specs:
        print(f"what is registered of benchmark '{name}' is damaged; run its spec again")


def _help(parser: argparse.ArgumentParser) -> int:
    parser.print_help()
    return 0
