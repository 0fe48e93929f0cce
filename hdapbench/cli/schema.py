"""``hdapbench schema [spec|board]``: the JSON Schema of specs, for editors, or of boards as JSON."""

from __future__ import annotations

import argparse
import sys
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser("schema", help="print the JSON Schema of specs or boards", description=__doc__)
    parser.add_argument("of", nargs="?", choices=("spec", "board"), default="spec", help="default: %(default)s")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the schema."""
    from hdapbench.render.document import board_schema_json
    from hdapbench.spec import schema_json

    sys.stdout.write(schema_json() if arguments.of == "spec" else board_schema_json())
    return 0
