"""``hdapbench results verify FILE|NAME --spec SPEC``: a sample of results made again, and compared."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from hdapbench.cli.options import (
    add_store_option,
    add_trust_option,
    load_with_methods,
    seed_number,
    whole_number,
    workspace_of,
)
from hdapbench.cli.results.source import Found, find_results, named_benchmark, of_place

if TYPE_CHECKING:
    from hdapbench.method.registry import MethodRegistry
    from hdapbench.run.verification import Comparison
    from hdapbench.spec import LoadedSpec


def add_parser(actions: Any) -> None:
    """Add the action to the parser."""
    parser = actions.add_parser("verify", help="make a sample of results again, and compare", description=__doc__)
    parser.add_argument("name", metavar="FILE|NAME", help="file of results, or name of a benchmark")
    parser.add_argument("--spec", required=True, metavar="SPEC", help="YAML file that the results are of")
    parser.add_argument("--sample", type=whole_number, default=3, metavar="N", help="results (default: %(default)s)")
    parser.add_argument("--seed", type=seed_number, default=0, metavar="N", help="of the draw (default: %(default)s)")
    parser.add_argument(
        "--exact", action="store_true", help="every number must be the same: for the machine that the results are of"
    )
    parser.add_argument(
        "--workspace",
        type=Path,
        metavar="DIR",
        help="where NAME's results are (default: .hdapbench), and whose caches, base models too, are used "
        "(default: none)",
    )
    add_store_option(parser)
    add_trust_option(parser)
    parser.set_defaults(handler=run, overrides=[], methods=[])


def run(arguments: argparse.Namespace) -> int:
    """Print a row per result; 1 when one differs by more than the tolerance."""
    from hdapbench.run.verification import base_hash, environment_differences

    found = _found(arguments)
    loaded, registry = load_with_methods(arguments)
    compared = list(_compared(arguments, found, loaded, registry))
    _print(compared)
    for line in environment_differences(found.results):
        print(f"versions differ: {line}", file=sys.stderr)
    if base_hash(found.results) is None:
        print("no dense result is stored: the base model cannot be compared", file=sys.stderr)
    n_wrong = sum(not comparison.holds for comparison in compared)
    print(f"{len(compared) - n_wrong} of {len(compared)} results hold", file=sys.stderr)
    return 1 if n_wrong else 0


def _found(arguments: argparse.Namespace) -> Found:
    if (found := of_place(arguments.name)) is not None:
        return found
    _, spec_hash = named_benchmark(arguments.spec)
    return find_results(arguments.name, workspace=workspace_of(arguments), spec_hash=spec_hash)


def _compared(
    arguments: argparse.Namespace, found: Found, loaded: LoadedSpec, registry: MethodRegistry
) -> list[Comparison]:
    """The sample, made again in a folder of its own; the dense model first, which tells of its base model."""
    from hdapbench.cli.progress import PlainProgress
    from hdapbench.run.grid import plan_trials
    from hdapbench.run.runner import Run
    from hdapbench.run.verification import base_hash, compare, sample_of
    from hdapbench.run.waiting import Waiting, results_alone
    from hdapbench.run.workspace import Workspace
    from hdapbench.trial import DENSE

    with TemporaryDirectory(prefix="hdapbench-") as folder:
        workspace = Workspace(Path(folder))
        if arguments.workspace is not None and Workspace(arguments.workspace).cache.is_dir():
            workspace.cache.symlink_to(Workspace(arguments.workspace).cache.resolve())
        trials = plan_trials(loaded, registry, cache_dir=workspace.cache)
        pairs = sample_of(found.results, trials, n=arguments.sample, seed=arguments.seed)
        dense = next(trial for trial in trials if trial.method == DENSE)
        todo = {trial.id: trial for trial in (dense, *(trial for _, trial in pairs))}
        listener = PlainProgress(tuple(todo.values()), n_done=0)
        made = {}
        ended = Run(loaded, registry, workspace=workspace, listener=listener).results(todo.values())
        waiting = Waiting(workspace.wanted / f"{loaded.spec.name}.json", source=loaded.source)
        for result in results_alone(ended, waiting, listener):
            listener.finished(result)
            made[result.trial.id] = result
    bases = {"stored": base_hash(found.results), "found": base_hash([made[dense.id]])}
    return [
        compare(stored, made[trial.id], bases={k: v for k, v in bases.items() if v}, exact=arguments.exact)
        for stored, trial in pairs
    ]


def _print(compared: list[Comparison]) -> None:
    from hdapbench.errors import printable
    from hdapbench.leaderboard.labels import labels_of

    labels = labels_of([comparison.stored.trial for comparison in compared])
    header = ("trial", "row", "accuracy", "here", "latency ms", "here", "verdict")
    rows = [header]
    for comparison in compared:
        trial = comparison.stored.trial
        numbers = [
            text
            for value in zip(*map(_cells, (comparison.stored.metrics, comparison.found.metrics)), strict=True)
            for text in value
        ]
        verdict = comparison.verdict if comparison.holds else f"DIFFERS: {comparison.verdict}"
        rows.append((trial.id, printable(trial.named(labels[trial.id])), *numbers, printable(verdict)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cells(metrics: Any) -> tuple[str, str]:
    return ("-", "-") if metrics is None else (f"{metrics.accuracy:.2%}", f"{metrics.latency_ms:.6g}")
