"""Options that several commands share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hdapbench.method.registry import MethodRegistry
    from hdapbench.run.workspace import Workspace
    from hdapbench.spec import LoadedSpec
    from hdapbench.store.place import Place

DEFAULT_WORKSPACE = Path(".hdapbench")


def add_spec_options(parser: argparse.ArgumentParser) -> None:
    """Add the spec, ``--set``, ``--method``, ``--workspace`` and ``--store``."""
    parser.add_argument("spec", metavar="SPEC", help="YAML file, such as specs/quickstart.yaml")
    add_set_option(parser, help_text="override a key of the spec, such as fleets[0].n_devices=8; may be repeated")
    parser.add_argument(
        "--method",
        dest="methods",
        action="append",
        default=[],
        metavar="NAME|PATH",
        help="run this method too: a name, or a file or folder such as ./mine.py (which is executed); may be repeated",
    )
    add_workspace_options(parser)
    add_trust_option(parser)


def add_workspace_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--workspace`` and ``--store``."""
    parser.add_argument(
        "--workspace",
        type=Path,
        default=DEFAULT_WORKSPACE,
        metavar="DIR",
        help="folder of database, caches and artifacts (default: %(default)s)",
    )
    add_store_option(parser)


def add_store_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--store``."""
    parser.add_argument(
        "--store",
        metavar="URL|FILE",
        help="database of results instead of the workspace's: postgresql+psycopg://HOST/DATABASE, or a file "
        "(default: what HDAPBENCH_STORE names, if it is set)",
    )


def workspace_of(arguments: argparse.Namespace) -> Workspace:
    """Workspace of a command line, with its store.

    Raises
    ------
    StoreError
        When the store is named by a URL that is not understood.
    """
    from hdapbench.run.workspace import Workspace
    from hdapbench.store.place import named_place

    return Workspace(arguments.workspace or DEFAULT_WORKSPACE, named_place(arguments.store))


def add_set_option(parser: argparse.ArgumentParser, *, help_text: str) -> None:
    """Add ``--set``."""
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help=help_text)


def add_trust_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--trust``."""
    parser.add_argument("--trust", action="store_true", help="run code that the file, spec or trial names")


def add_executor_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--executor``, ``--workers``, ``--address`` and ``--shard``."""
    group = parser.add_argument_group("where trials run", "The numbers are the same everywhere.")
    group.add_argument(
        "--executor",
        choices=("inline", "process", "ray"),
        help="this process, worker processes, or a Ray cluster (default: worker processes where cores allow several)",
    )
    group.add_argument(
        "--workers", type=whole_number, metavar="N", help="trials at once (default: cores by the spec's threads)"
    )
    group.add_argument("--address", metavar="HOST:PORT", help="of the Ray cluster (default: one of this machine alone)")
    group.add_argument(
        "--shard",
        metavar="I/N",
        help="run part I of N of the trials, for machines that share no store; results merge puts them together",
    )


def let_options_stand_between_words(parser: argparse.ArgumentParser) -> None:
    """Take ``test --set steps=3 mine.py`` as ``test mine.py --set steps=3``: argparse wants a list in one piece."""
    plain = parser.parse_known_args

    def parse(arguments: Any = None, namespace: Any = None) -> Any:
        parser.parse_known_args = plain  # type: ignore[method-assign]
        try:
            return parser.parse_known_intermixed_args(arguments, namespace)
        finally:
            parser.parse_known_args = parse  # type: ignore[method-assign, assignment]

    parser.parse_known_args = parse  # type: ignore[method-assign, assignment]


def whole_number(text: str) -> int:
    """Number of at least 1, for argparse."""
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not int(text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


def seed_number(text: str) -> int:
    """Number of at least 0, for argparse."""
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 0")
    return int(text)


def board_of(benchmark: str) -> Path:
    """Where the board of a benchmark goes by default."""
    return Path("leaderboards") / f"{benchmark}.md"


def existing_database(workspace: Workspace) -> Place:
    """Database of a workspace that something has run in.

    Raises
    ------
    StoreError
        When there is none.
    """
    from hdapbench.errors import StoreError

    database = workspace.database
    if not database.exists():
        raise StoreError(
            f"there is no database '{database}'; run a spec first, or name its folder with --workspace, or --store"
        )
    return database


def named_methods(registry: MethodRegistry, text: str) -> tuple[str, ...]:
    """Name of a method; of a file or folder, which is executed, the names of all methods in it.

    Raises
    ------
    MethodError
        When the file cannot be used.
    """
    from hdapbench.method.registry import is_path

    return registry.add_file(Path(text)) if is_path(text) else (text,)


def load_with_methods(
    arguments: argparse.Namespace, before_code: Callable[[], object] = lambda: None
) -> tuple[LoadedSpec, MethodRegistry]:
    """Spec of a command line, with the methods of ``--method`` added, and the registry that knows them all.

    Parameters
    ----------
    before_code
        Called before code of others is imported.

    Raises
    ------
    SpecError, MethodError
        When either cannot be used.
    """
    from dataclasses import replace

    from hdapbench.cli.trust import require_trust
    from hdapbench.method.registry import MethodRegistry, is_path
    from hdapbench.run.grid import register_plugins
    from hdapbench.spec import MethodSpec, load
    from hdapbench.spec.shipped import spec_file

    loaded = load(spec_file(arguments.spec), arguments.overrides)
    require_trust(loaded, arguments.overrides, trusted=arguments.trust)
    registry = MethodRegistry(before_code)
    register_plugins(loaded, registry)
    added = []
    for method in arguments.methods:
        names = registry.try_file(Path(method)) if is_path(method) else (method,)
        added += [MethodSpec(name=name) for name in names]
    if added:
        known = {(method.name, str(method.parameters)) for method in loaded.spec.methods}
        fresh = [method for method in added if (method.name, "{}") not in known]
        spec = loaded.spec.model_copy(update={"methods": (*loaded.spec.methods, *fresh)})
        loaded = replace(loaded, spec=spec)
    reasons = list(registry.broken_files.values())
    for reason in filter(None, [registry.why_broken(method.name) for method in loaded.spec.methods]):
        if not any(known in reason for known in reasons):
            reasons.append(reason)
    for reason in reasons:
        print(f"broken plug-in, its trials fail: {reason}", file=sys.stderr)
    return loaded, registry
