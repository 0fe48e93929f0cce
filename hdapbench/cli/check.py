"""``hdapbench check SPEC``: what a run would do, spending nothing."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hdapbench.cli.options import add_spec_options, board_of, load_with_methods, workspace_of
from hdapbench.cli.output import check_output
from hdapbench.errors import printable

if TYPE_CHECKING:
    from hdapbench.run.changes import Redone
    from hdapbench.run.inspection import Inspection
    from hdapbench.spec import LoadedSpec
    from hdapbench.store.place import Place
    from hdapbench.trial import Trial


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "check", help="validate a spec, list its trials and what is done", description=__doc__
    )
    add_spec_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print groups that cannot be pruned, targets and trials; 1 when a target is out of reach.

    Raises
    ------
    SpecError
        With what a run would be refused for.
    """
    from hdapbench.run.grid import plan_trials
    from hdapbench.run.inspection import inspect_model
    from hdapbench.run.requirements import cautions

    loaded, registry = load_with_methods(arguments)
    workspace = workspace_of(arguments)
    trials = plan_trials(loaded, registry, cache_dir=workspace.cache)
    stored = _stored(workspace.database, loaded, trials)
    done = stored.done
    inspection = inspect_model(loaded, cache_dir=workspace.cache)
    if arguments.json:
        content = {
            "name": loaded.spec.name,
            "model": inspection.to_dict(),
            "changed": list(stored.redone.why) if stored.redone else [],
            "made_again": stored.redone.n_trials if stored.redone else 0,
            "damaged": stored.damaged,
            "trials": [
                {
                    "id": trial.id,
                    "trial": str(trial),
                    "parameters": trial.parameters,
                    "status": done.get(trial.id, "to do"),
                }
                for trial in trials
            ],
        }
        print(json.dumps(content, indent=2))
    else:
        _print(inspection, trials, stored)
    for caution in cautions(loaded, registry):
        print(caution, file=sys.stderr)
    check_output(board_of(loaded.spec.name))
    inspection.refuse()
    return 0 if all(target.reachable for target in inspection.targets) else 1


@dataclass(frozen=True)
class _Stored:
    """What the database holds: id -> status of trials, ids of damaged ones, and those that have to be made again."""

    done: dict[str, str] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()
    redone: Redone | None = None


def _stored(database: Place, loaded: LoadedSpec, trials: tuple[Trial, ...]) -> _Stored:
    if not database.exists():
        return _Stored()
    from hdapbench.run.changes import redone
    from hdapbench.run.grid import named_by_content
    from hdapbench.store.sqlite import open_store

    ids = [trial.id for trial in trials]
    with open_store(database) as store:
        found = store.finished(ids, include_failed=True)
        again = redone(store, named_by_content(loaded), trials)
        return _Stored({key: status.value for key, status in found.items()}, store.damaged(ids), again)


def _print(inspection: Inspection, trials: tuple[Trial, ...], stored: _Stored) -> None:
    from hdapbench.leaderboard.labels import labels_of

    done = stored.done
    print(f"model: {inspection.flops:,} FLOPs (multiply-accumulates), {inspection.params:,} parameters")
    if inspection.product_flops:
        held = "held" if inspection.counts_products else "left out"
        print(
            f"products between activations: {inspection.product_flops:,} multiply-accumulates, {held} (count_products)"
        )
    origin = "" if inspection.classes_are_counted else ", assumed: the data was not found"
    print(f"classes: {inspection.n_classes}{origin}")
    print(f"channel groups: {inspection.n_groups} can be pruned, {len(inspection.frozen)} cannot")
    for name, reason in inspection.frozen.items():
        print(printable(f"  frozen {name}: {reason}"))
    for target in inspection.targets:
        verdict = "reachable" if target.reachable else f"OUT OF REACH, the minimum is {inspection.minimum_flops:,}"
        print(f"target {target.text}: at most {target.flops:,} FLOPs, {verdict}")
    n_done = sum(trial.id in done for trial in trials)
    print(f"trials: {len(trials)}, of which {n_done} done")
    for line in stored.redone.said(len(trials)) if stored.redone else ():
        print(f"  {printable(line)}")
    for trial_id in stored.damaged:
        print(f"  damaged in the database, to be made again: {trial_id}")
    labels = labels_of(trials)
    for trial in trials:
        print(printable(f"  {trial.id}  {done.get(trial.id, 'to do'):10}  {trial.named(labels[trial.id])}"))
    if any(not target.reachable for target in inspection.targets):
        print("a target is out of reach: raise it or choose a smaller model", file=sys.stderr)
