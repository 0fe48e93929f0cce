"""``hdapbench results merge FILE... -o FILE``: files of results as one file, where they belong together."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from hdapbench.cli.output import write_output
from hdapbench.cli.results.taking import add_keep_option


def add_parser(actions: Any) -> None:
    """Add the action to the parser."""
    parser = actions.add_parser("merge", help="put files of results together", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="file that results export wrote")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="where to write")
    add_keep_option(parser, ours="the file that is named first")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Write what the files hold together."""
    from hdapbench.run.merging import put_together

    whole = put_together(arguments.files, keep=arguments.keep)
    write_output(arguments.output, whole.to_bytes())
    n_trials = len(whole.benchmark.trial_ids)
    print(f"wrote {arguments.output}: {len(whole.results)} of {n_trials} results", file=sys.stderr)
    return 0
