"""``hdapbench results``: results to and from files that travel; checked, made again for comparison, and removed.

- ``export``, ``import``, ``merge``, ``check``, ``pages``, ``summary``, ``verify``, ``history``, ``rm``, ``gc``: one
  action each
- ``source``: where the results of a benchmark are found: in the database, or in the file beside its board
"""

from __future__ import annotations

import argparse
import importlib
from typing import Any

ACTIONS = {
    "export": "export",
    "import": "taking",
    "merge": "merge",
    "check": "check",
    "pages": "pages",
    "summary": "summary",
    "verify": "verify",
    "history": "history",
    "rm": "rm",
    "gc": "gc",
}
"""Action -> its module, in the order in which they are used."""


def add_parser(subparsers: Any) -> None:
    """Add the command and its actions to the parser."""
    parser = subparsers.add_parser(
        "results",
        help="export, import, merge, check, verify and remove results",
        description=__doc__.partition("\n")[0],
        epilog="Start with: hdapbench results export quickstart",
    )
    parser.set_defaults(handler=lambda _: _help(parser))
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    for module in ACTIONS.values():
        importlib.import_module(f"hdapbench.cli.results.{module}").add_parser(actions)


def _help(parser: argparse.ArgumentParser) -> int:
    parser.print_help()
    return 0
