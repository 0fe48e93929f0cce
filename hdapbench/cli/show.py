"""``hdapbench show [TRIAL|BENCHMARK]``: one trial in full, the trials of a benchmark, or the benchmarks."""

from __future__ import annotations

import argparse
import json
from statistics import median
from typing import TYPE_CHECKING, Any

from hdapbench.cli.options import add_workspace_options, existing_database, workspace_of
from hdapbench.errors import printable

if TYPE_CHECKING:
    from hdapbench.trial import Result


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser("show", help="show one trial, or the trials of a benchmark", description=__doc__)
    parser.add_argument("name", nargs="?", metavar="TRIAL|BENCHMARK", help="id of a trial, its beginning, or a name")
    add_workspace_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what the database holds under a name."""
    from hdapbench.store.sqlite import open_store

    with open_store(existing_database(workspace_of(arguments))) as store:
        names = store.benchmarks()
        if arguments.name is None:
            print(json.dumps(names) if arguments.json else "\n".join(names))
        elif arguments.name in names:
            results = store.results(trial_ids=store.benchmark(arguments.name).trial_ids)
            if arguments.json:
                print(json.dumps([result.model_dump(mode="json") for result in results], indent=2))
            else:
                _print_list(results)
        else:
            result = store.get(arguments.name)
            if arguments.json:
                print(json.dumps(result.model_dump(mode="json"), indent=2))
            else:
                _print_trial(result)
    return 0


def _print_list(results: list[Result]) -> None:
    from hdapbench.cli.progress import outcome
    from hdapbench.leaderboard.labels import labels_of

    labels = labels_of([result.trial for result in results])
    for result in results:
        trial = result.trial
        name = trial.named(labels[trial.id])
        line = f"{trial.id}  {result.status.value:10}  {result.seconds:8.1f} s  {name}: {outcome(result)}"
        print(printable(line))


def _print_trial(result: Result) -> None:
    trial = result.trial
    print(f"{trial}\nstatus: {result.status.value}{f' ({printable(result.reason)})' if result.reason else ''}")
    print(f"parameters: {json.dumps(trial.parameters, sort_keys=True)}")
    spent = result.spent
    print(
        f"spent by the method: {spent.device_queries} device queries, {spent.accuracy_evals} accuracy evaluations, "
        f"{spent.train_epochs:g} training epochs, {spent.wall_seconds:.1f} s; {result.seconds:.1f} s in all"
    )
    if result.metrics is not None:
        print("metrics:")
        for name, value in result.metrics.model_dump().items():
            print(f"  {name}: {f'{value:,}' if isinstance(value, int) else value}")
    if result.devices:
        print("latency per representative (median of the repeats):")
        for device in result.devices:
            ordered = sorted(device.samples_ms)
            print(
                f"  cluster {device.cluster}, {device.weight:.1%} of the fleet, {device.device}: "
                f"{median(ordered):.4g} ms, {len(ordered)} repeats from {ordered[0]:.4g} to {ordered[-1]:.4g}"
            )
    if result.plan is not None:
        print("channels kept per group:")
        for name, kept in result.plan.kept.items():
            print(printable(f"  {name}: {len(kept)}"))
    print("environment: " + ", ".join(f"{key} {value}" for key, value in result.environment.model_dump().items()))
