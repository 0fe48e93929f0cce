"""``hdapbench run SPEC``: the trials that are not done yet, then the leaderboard."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdapbench.cli.options import add_spec_options, again, board_of, check_board_file, load_with_methods
from hdapbench.cli.output import check_output, console, write_output

if TYPE_CHECKING:
    from hdapbench.run.listener import Listener
    from hdapbench.store.sqlite import Benchmark
    from hdapbench.trial import Result, Trial


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser("run", help="run a spec's trials and show the leaderboard", description=__doc__)
    add_spec_options(parser)
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write the leaderboard here (default: leaderboards/NAME.md)"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON instead of the leaderboard")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--retry-failed", action="store_true", help="run trials again that failed or timed out")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Run what is left of a spec; 1 when a trial failed."""
    _let_threads_sleep()
    from hdapbench.files import sweep_leftovers
    from hdapbench.run.grid import named_by_content, plan_trials
    from hdapbench.run.inspection import inspect_model
    from hdapbench.run.requirements import cautions
    from hdapbench.run.runner import Run, forward
    from hdapbench.run.workspace import Workspace
    from hdapbench.spec import canonical_json, spec_hash
    from hdapbench.store.sqlite import Benchmark, open_store
    from hdapbench.trial import Status

    loaded, registry = load_with_methods(arguments, before_code=_import_what_makes_numbers)
    workspace = Workspace(arguments.workspace)
    trials = plan_trials(loaded, registry, cache_dir=workspace.cache)
    spec_json = canonical_json(named_by_content(loaded))
    benchmark = Benchmark(
        loaded.spec.name,
        spec_hash(named_by_content(loaded)),
        json.loads(spec_json),
        tuple(trial.id for trial in trials),
    )
    output = arguments.output or _own_place(arguments, benchmark)
    check_board_file(output)
    check_output(output)
    sweep_leftovers(workspace.root)
    with open_store(workspace.database) as store:
        store.register(  # boards can be rendered from the database alone
            benchmark.name, spec_hash=benchmark.spec_hash, spec_json=spec_json, trial_ids=benchmark.trial_ids
        )
        done = store.finished([trial.id for trial in trials], include_failed=not arguments.retry_failed)
        todo = [trial for trial in trials if trial.id not in done]
        with _progress(trials, n_done=len(done), quiet=arguments.quiet) as listener:
            _announce(listener, loaded.spec.name, len(trials), len(done))
            for trial_id in store.damaged(benchmark.trial_ids):
                listener.phase(f"the stored result of trial {trial_id} is damaged and is made again")
            if todo:  # what cannot be run is refused before anything is spent
                listener.phase("checking the model")
                inspect_model(loaded, cache_dir=workspace.cache).refuse()
                for caution in cautions(loaded, registry):
                    listener.phase(str(caution))
            stored = store.results(trial_ids=list(done)) if todo else []
            job = Run(loaded, registry, workspace=workspace, listener=listener, stored=stored)
            try:
                for _ in forward(job.results(todo), store.add, listener):
                    pass
            except KeyboardInterrupt:
                finished = len(store.finished([trial.id for trial in trials], include_failed=True))
                listener.phase(
                    f"interrupted: {finished} of {len(trials)} trials are stored; go on with: {_again(arguments)}"
                )
                raise
        results = store.results(trial_ids=[trial.id for trial in trials])
        if failed := sum(status in {Status.FAILED, Status.TIMEOUT} for status in done.values()):
            print(f"{failed} of them failed or timed out before; run them again with --retry-failed", file=sys.stderr)
    _print(benchmark, results, output, as_json=arguments.json)
    return 1 if any(result.status in {Status.FAILED, Status.TIMEOUT} for result in results) else 0


def _again(arguments: argparse.Namespace) -> str:
    """Command line by which an interrupted run goes on."""
    output = f" --output {shlex.quote(str(arguments.output))}" if arguments.output else ""
    return again("run", arguments) + output


def _let_threads_sleep() -> None:
    """Make torch's threads sleep while they wait for each other, unless the user says otherwise.

    By default they spin. Where other processes are busy, the one that all wait for then waits for a processor
    (benchmarks/test_busy_machine.py). OpenMP reads this when torch is imported.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def _import_what_makes_numbers() -> None:
    """Import what trials are carried out with, so that it can be put back when a plug-in replaces parts of it."""
    import hdapbench.run.attempt  # noqa: F401


def _announce(listener: Listener, name: str, n_trials: int, n_done: int) -> None:
    if n_done == n_trials:
        listener.phase(f"{name}: all {n_trials} trials are done, nothing to run")
    elif n_done:
        listener.phase(f"{name}: {n_done} of {n_trials} trials are done and skipped")
    else:
        listener.phase(f"{name}: {n_trials} trials")


def _print(benchmark: Benchmark, results: list[Result], output: Path, *, as_json: bool) -> None:
    """Write and show the board of what was run, whatever else was registered under its name meanwhile."""
    from hdapbench.leaderboard.build import build_leaderboard
    from hdapbench.render.markdown import render_markdown
    from hdapbench.render.terminal import print_leaderboard

    board = build_leaderboard(benchmark, results)
    write_output(output, render_markdown(board))
    print(f"wrote {output}", file=sys.stderr)
    if as_json:
        print(json.dumps([result.model_dump(mode="json") for result in results], indent=2))
    else:
        print_leaderboard(board, console(width=160))


def _own_place(arguments: argparse.Namespace, benchmark: Benchmark) -> Path:
    """Where a board goes by default: where the command line changed the spec, not over the board of another one."""
    usual = board_of(benchmark.name)
    explores = arguments.overrides or arguments.methods
    if (
        not explores
        or not usual.is_file()
        or benchmark.spec_hash in usual.read_text(encoding="utf-8", errors="replace")
    ):
        return usual
    print(f"{usual} shows another spec and is kept", file=sys.stderr)
    return usual.with_stem(f"{benchmark.name}-{benchmark.spec_hash[:8]}")


def _progress(trials: tuple[Trial, ...], *, n_done: int, quiet: bool) -> AbstractContextManager[Listener]:
    """Listener that suits where stderr goes: a live display, plain lines, or nothing."""
    from hdapbench.cli.progress import LiveProgress, PlainProgress, Silence

    if quiet:
        return nullcontext(Silence())
    if sys.stderr.isatty():
        return LiveProgress(trials, n_done=n_done)
    return nullcontext(PlainProgress(trials, n_done=n_done))
