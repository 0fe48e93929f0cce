"""``hdapbench results export NAME``: a benchmark's results as one file, to commit beside its board or to send."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from hdapbench.cli.options import add_workspace_options, existing_database, workspace_of
from hdapbench.cli.output import write_output
from hdapbench.cli.results.source import BOARDS, named_benchmark, results_beside


def add_parser(actions: Any) -> None:
    """Add the action to the parser."""
    parser = actions.add_parser("export", help="write the results of a benchmark as one file", description=__doc__)
    parser.add_argument("name", metavar="NAME|SPEC", help="name of a benchmark, or its spec file")
    add_workspace_options(parser)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: leaderboards/results/NAME.jsonl.zst"
    )
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the file and say what it holds."""
    from hdapbench.store.sqlite import open_store
    from hdapbench.store.travel import only_named

    name, spec_hash = named_benchmark(arguments.name)
    with open_store(existing_database(workspace_of(arguments))) as store:
        benchmark = store.benchmark(name, spec_hash=spec_hash)
        found = only_named(benchmark, store.results(trial_ids=benchmark.trial_ids))
    output = arguments.output or results_beside(BOARDS / f"{name}.md")
    content = found.to_bytes()
    write_output(output, content)
    n_trials = len(benchmark.trial_ids)
    print(f"wrote {output}: {len(found.results)} of {n_trials} results, {len(content):,} bytes", file=sys.stderr)
    return 0
