"""``hdapbench fleet``: make, measure, fingerprint and cluster a fleet, estimate its average, watch drift, calibrate.

- ``make``, ``show``, ``measure``, ``ask``, ``tell``, ``fingerprint``, ``cluster``, ``plan``, ``estimate``, ``drift``,
  ``calibrate``: one action each
- ``source``: what they share: options, fleets of files, models to time
"""

from __future__ import annotations

import argparse
import importlib
from typing import Any

ACTIONS = ("make", "show", "measure", "ask", "tell", "fingerprint", "cluster", "plan", "estimate", "drift", "calibrate")
"""One module each, in the order in which they are used."""


def add_parser(subparsers: Any) -> None:
    """Add the command and its actions to the parser."""
    parser = subparsers.add_parser(
        "fleet",
        help="make, measure, fingerprint and cluster a fleet, and estimate its average latency",
        description=__doc__.partition("\n")[0],
        epilog="Start with: hdapbench fleet make -o fleet.yaml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(handler=lambda _: _help(parser))
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    for name in ACTIONS:
        importlib.import_module(f"hdapbench.cli.fleet.{name}").add_parser(actions)


def _help(parser: argparse.ArgumentParser) -> int:
    parser.print_help()
    return 0
