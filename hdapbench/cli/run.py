"""``hdapbench run SPEC``: the trials that are not done yet, then the leaderboard."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdapbench.cli.board_forms import write_picture_or_page
from hdapbench.cli.exploring import add_exploring_options, asked_again, board_place, explores, narrowed_by, same_command
from hdapbench.cli.forms import DRAWN, form_of, rendered
from hdapbench.cli.options import add_executor_options, add_spec_options, board_of, load_with_methods, workspace_of
from hdapbench.cli.output import check_output, console, write_output
from hdapbench.cli.results.source import results_beside

if TYPE_CHECKING:
    from hdapbench.leaderboard.board import Leaderboard
    from hdapbench.run.listener import Listener
    from hdapbench.run.sharding import Shard
    from hdapbench.store.sqlite import Benchmark
    from hdapbench.trial import Result, Trial


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser("run", help="run a spec's trials and show the leaderboard", description=__doc__)
    add_spec_options(parser)
    add_exploring_options(parser)
    add_executor_options(parser)
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write the leaderboard here (default: leaderboards/NAME.md)"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON instead of the leaderboard")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--retry-failed", action="store_true", help="run trials again that failed or timed out")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Run what is left of a spec; 1 when a trial failed."""
    from hdapbench.executor.choose import chosen
    from hdapbench.run.sharding import Shard
    from hdapbench.run.whole import carry_through, import_what_makes_numbers, let_threads_sleep, plan_run

    let_threads_sleep()
    executor = chosen(arguments.executor, n_workers=arguments.workers, address=arguments.address)
    shard = None if arguments.shard is None else Shard.read(arguments.shard)
    spec, registry = load_with_methods(arguments, before_code=import_what_makes_numbers)
    part = narrowed_by(arguments, spec)
    planned = plan_run(spec, registry, workspace_of(arguments), part=part, explores=explores(arguments))
    again = asked_again(arguments.rerun, planned.trials)
    output = board_place(arguments, planned.benchmark.name)
    part_file = None if shard is None else _file_of_shard(output or board_of(planned.benchmark.name), shard)
    for path in _written(output, explores=planned.explores) if part_file is None else [part_file]:
        check_output(path)
    ended = carry_through(
        planned,
        partial(_progress, quiet=arguments.quiet),
        executor,
        again=again,
        limit=arguments.limit,
        retry_failed=arguments.retry_failed,
        shard=shard,
        go_on=same_command(arguments),
    )
    if ended.n_failed_before:
        print(
            f"{ended.n_failed_before} of them failed or timed out before; run them again with --retry-failed",
            file=sys.stderr,
        )
    board = _tell(arguments, planned.benchmark, ended.results)
    if part_file is None:
        _write(planned.benchmark, board, ended.results, output, explores=planned.explores)
    else:
        _write_shard(planned.benchmark, ended.results, part_file, output)
    return 1 if ended.failed else 0


def _tell(arguments: argparse.Namespace, benchmark: Benchmark, results: list[Result]) -> Leaderboard:
    """Show what was run, whatever else was registered under its name meanwhile."""
    from hdapbench.leaderboard.build import build_leaderboard
    from hdapbench.render.terminal import print_leaderboard

    board = build_leaderboard(benchmark, results)
    if arguments.json:
        print(json.dumps([result.model_dump(mode="json") for result in results], indent=2))
    else:
        print_leaderboard(board, console(width=160))
    return board


def _file_of_shard(board: Path, shard: Shard) -> Path:
    """Results of a shard: in a folder beside those of the whole board."""
    whole = results_beside(board)
    return whole.parent / board.stem / whole.name.replace(board.stem, shard.stem, 1)


def _write_shard(benchmark: Benchmark, results: list[Result], path: Path, output: Path | None) -> None:
    """Write the results of a shard, and say what to do when the others are there."""
    from hdapbench.store.travel import only_named

    write_output(path, only_named(benchmark, results).to_bytes())
    board = output or board_of(benchmark.name)
    whole = results_beside(board)
    print(
        f"wrote {path}; with the other shards in its folder: hdapbench results merge "
        f"{shlex.quote(str(path.parent))}/* -o {shlex.quote(str(whole))} && "
        f"hdapbench board {shlex.join([str(whole), '--output', str(board)])}",
        file=sys.stderr,
    )


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


def _progress(trials: tuple[Trial, ...], n_done: int, *, quiet: bool) -> AbstractContextManager[Listener]:
    """Listener that suits where stderr goes: a live display, plain lines, or nothing."""
    from hdapbench.cli.progress import LiveProgress, PlainProgress, Silence

    if quiet:
        return nullcontext(Silence())
    if sys.stderr.isatty():
        return LiveProgress(trials, n_done=n_done)
    return nullcontext(PlainProgress(trials, n_done=n_done))
