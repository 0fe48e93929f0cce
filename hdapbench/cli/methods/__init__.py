"""``hdapbench methods [NAME|PATH | new NAME | test NAME|PATH]``: list, describe, begin and test pruning methods.

- show: the list of methods, and the card of one
- new: a file to begin a method with
- test: the contract suite, rule by rule
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hdapbench.cli.options import add_set_option, let_options_stand_between_words
from hdapbench.errors import MethodError

USAGE = "write: hdapbench methods [NAME|PATH], hdapbench methods new NAME, or hdapbench methods test NAME|PATH"


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "methods",
        help="list, describe, begin and test pruning methods",
        description=(__doc__ or "").partition("\n")[0],
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="NAME|PATH",
        help="a method, or a file of methods (which is executed), to describe; or: new NAME, test NAME|PATH",
    )
    add_set_option(parser, help_text="with test: a parameter, such as steps=3; may be repeated")
    parser.add_argument("--one-process", action="store_true", help="with test: ask no other process")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="with new: where to write (default: NAME.py)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=run)
    let_options_stand_between_words(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do what the words say; 1 when a tested method breaks a rule or is skipped everywhere."""
    from hdapbench.cli.methods import new, show
    from hdapbench.method.registry import MethodRegistry

    registry = MethodRegistry()
    words = arguments.words
    if not words:
        return show.list_methods(registry, as_json=arguments.json)
    if len(words) == 2 and words[0] == "test":
        from hdapbench.cli.methods.test import test  # the only one that needs torch

        return test(
            registry,
            words[1],
            overrides=arguments.overrides,
            one_process=arguments.one_process,
            as_json=arguments.json,
        )
    if len(words) == 2 and words[0] == "new":
        return new.begin(registry, words[1], output=arguments.output)
    if len(words) == 1 and words[0] not in {"new", "test"}:
        return show.describe(registry, words[0], as_json=arguments.json)
    raise MethodError(USAGE)
