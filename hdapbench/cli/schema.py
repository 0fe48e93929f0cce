"""``hdapbench schema``: the JSON Schema of specs, for editors."""

from __future__ import annotations

import argparse
import sys
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser("schema", help="print the JSON Schema of specs", description=__doc__)
    parser.set_defaults(handler=run)


def run(_arguments: argparse.Namespace) -> int:
    """Print the schema."""
    from hdapbench.spec import schema_json

    sys.stdout.write(schema_json())
    return 0
