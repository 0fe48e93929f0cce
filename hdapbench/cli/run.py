"""``hdapbench run SPEC``: the trials that are not done yet, then the leaderboard."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdapbench.cli.board_forms import write_picture_or_page
from hdapbench.cli.exploring import add_exploring_options, asked_again, board_place, explores, narrowed_by, same_command
from hdapbench.cli.forms import DRAWN, form_of, rendered
from hdapbench.cli.options import add_spec_options, load_with_methods
from hdapbench.cli.output import check_output, console, write_output
from hdapbench.cli.results.source import results_beside

if TYPE_CHECKING:
    from hdapbench.leaderboard.board import Leaderboard
    from hdapbench.method.registry import MethodRegistry
    from hdapbench.run.listener import Listener
    from hdapbench.run.workspace import Workspace
    from hdapbench.spec import LoadedSpec
    from hdapbench.store.sqlite import Benchmark, Store
    from hdapbench.trial import Result, Trial


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser("run", help="run a spec's trials and show the leaderboard", description=__doc__)
    add_spec_options(parser)
    add_exploring_options(parser)
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
    from hdapbench.run.changes import redone
    from hdapbench.run.grid import named_by_content
    from hdapbench.run.inspection import inspect_model
    from hdapbench.run.requirements import cautions
    from hdapbench.run.runner import Run, forward
    from hdapbench.run.workspace import Workspace
    from hdapbench.store.sqlite import open_store
    from hdapbench.trial import Status

    spec, registry = load_with_methods(arguments, before_code=_import_what_makes_numbers)
    workspace, loaded = Workspace(arguments.workspace), narrowed_by(arguments, spec)
    trials, whole = _planned(spec, registry, workspace)
    benchmark = whole  # what is registered; of a narrowed run, what is shown is a part of it
    if loaded is not spec:
        trials, benchmark = _planned(loaded, registry, workspace)
    again = asked_again(arguments.rerun, trials)
    output = board_place(arguments, benchmark.name)
    for path in _written(output, explores=explores(arguments)):
        check_output(path)
    sweep_leftovers(workspace.root)
    with open_store(workspace.database) as store:
        said = redone(store, named_by_content(loaded), trials)
        said += [
            f"the stored result of trial {i} is damaged and is made again" for i in store.damaged(benchmark.trial_ids)
        ]
        _register(store, whole, explores=explores(arguments))
        done = store.finished([trial.id for trial in trials], include_failed=not arguments.retry_failed)
        stored = store.results(trial_ids=list(done))
        done = {trial_id: status for trial_id, status in done.items() if trial_id not in again}
        todo = [trial for trial in trials if trial.id not in done][: arguments.limit]
        with _progress(trials, n_done=len(done), quiet=arguments.quiet) as listener:
            _announce(listener, loaded.spec.name, len(trials), len(done))
            for line in said:
                listener.phase(line)
            if todo:  # what cannot be run is refused before anything is spent
                listener.phase("checking the model")
                inspect_model(loaded, cache_dir=workspace.cache).refuse()
                for caution in cautions(loaded, registry):
                    listener.phase(str(caution))
            job = Run(loaded, registry, workspace=workspace, listener=listener, stored=stored)
            try:
                ended = [result.status for result in forward(job.results(todo), store.add, listener)]
            except KeyboardInterrupt:
                finished = len(store.finished([trial.id for trial in trials], include_failed=True))
                listener.phase(
                    f"interrupted: {finished} of {len(trials)} trials are stored; go on with: {same_command(arguments)}"
                )
                raise
        results = store.results(trial_ids=[trial.id for trial in trials])
        if failed := sum(status in {Status.FAILED, Status.TIMEOUT} for status in done.values()):
            print(f"{failed} of them failed or timed out before; run them again with --retry-failed", file=sys.stderr)
    _tell(arguments, benchmark, results, output)
    ended += [result.status for result in results]  # a failed rerun leaves the stored result in its place
    return 1 if {Status.FAILED, Status.TIMEOUT} & set(ended) else 0


def _register(store: Store, benchmark: Benchmark, *, explores: bool) -> None:
    """Note what is run: boards can be rendered from the database alone."""
    store.register(
        benchmark.name,
        spec_hash=benchmark.spec_hash,
        spec_json=json.dumps(benchmark.spec, sort_keys=True, separators=(",", ":")),
        trial_ids=benchmark.trial_ids,
        explores=explores,
    )


def _planned(loaded: LoadedSpec, registry: MethodRegistry, workspace: Workspace) -> tuple[tuple[Trial, ...], Benchmark]:
    """Trials of a spec, and what it is registered as."""
    from hdapbench.run.grid import named_by_content, plan_trials
    from hdapbench.spec import canonical_json, spec_hash
    from hdapbench.store.sqlite import Benchmark

    trials = plan_trials(loaded, registry, cache_dir=workspace.cache)
    spec = named_by_content(loaded)
    content = json.loads(canonical_json(spec))
    return trials, Benchmark(spec.name, spec_hash(spec), content, tuple(trial.id for trial in trials))


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


def _tell(arguments: argparse.Namespace, benchmark: Benchmark, results: list[Result], output: Path | None) -> None:
    """Show what was run, whatever else was registered under its name meanwhile, and write its files."""
    from hdapbench.leaderboard.build import build_leaderboard
    from hdapbench.render.terminal import print_leaderboard

    board = build_leaderboard(benchmark, results)
    if arguments.json:
        print(json.dumps([result.model_dump(mode="json") for result in results], indent=2))
    else:
        print_leaderboard(board, console(width=160))
    _write(benchmark, board, results, output, explores=explores(arguments))


def _written(output: Path | None, *, explores: bool) -> list[Path]:
    """Files that a run writes: the board and, unless it explores, its page and what both are rendered from."""
    if output is None:
        return []
    form_of(output)  # a suffix that stands for no form is refused before anything is spent
    is_file = output.is_file() or not output.exists()  # no pipe, for example
    if not is_file or explores:
        return [output]
    return list(dict.fromkeys([output, results_beside(output), output.with_suffix(".html")]))


def _write(
    benchmark: Benchmark, board: Leaderboard, results: list[Result], output: Path | None, *, explores: bool
) -> None:
    """Write a board, its page, and the results that both are rendered from."""
    from hdapbench.store.travel import only_named

    if output is None:
        print("this run explored: no board was written; name a file with --output to write one", file=sys.stderr)
        return
    for path in _written(output, explores=explores):
        if path == results_beside(output):
            write_output(path, only_named(benchmark, results).to_bytes())
        elif (form := form_of(path)) in DRAWN:
            write_picture_or_page(board, results, path)
        else:
            write_output(path, rendered(board, form))
        print(f"wrote {path}", file=sys.stderr)


def _progress(trials: tuple[Trial, ...], *, n_done: int, quiet: bool) -> AbstractContextManager[Listener]:
    """Listener that suits where stderr goes: a live display, plain lines, or nothing."""
    from hdapbench.cli.progress import LiveProgress, PlainProgress, Silence

    if quiet:
        return nullcontext(Silence())
    if sys.stderr.isatty():
        return LiveProgress(trials, n_done=n_done)
    return nullcontext(PlainProgress(trials, n_done=n_done))
