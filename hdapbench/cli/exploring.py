"""Options of a run that explores: what they narrow, where its board goes, and how to go on with them."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from hdapbench.cli.options import seed_number, whole_number, workspace_of
from hdapbench.cli.results.source import BOARDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hdapbench.spec import LoadedSpec, Spec
    from hdapbench.trial import Trial


def add_exploring_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--fast``, ``--only``, ``--target``, ``--seeds``, ``--limit`` and ``--rerun``."""
    group = parser.add_argument_group(
        "exploring",
        "A run with one of these, --set or --method writes no board of its own accord, and leaves the benchmark that "
        "is registered as it is.",
    )
    group.add_argument(
        "--fast", action="store_true", help="run one seed and three methods, the reference and the last among them"
    )
    group.add_argument(
        "--only", action="append", default=[], metavar="METHOD", help="run this method of the spec; may be repeated"
    )
    group.add_argument(
        "--target", dest="targets", action="append", default=[], metavar="TARGET", help="such as 0.5x; may be repeated"
    )
    group.add_argument("--seeds", type=_seeds, default=[], metavar="N,...", help="run these seeds of the spec")
    group.add_argument("--limit", type=whole_number, metavar="N", help="run at most so many trials, and stop")
    parser.add_argument(
        "--rerun",
        action="append",
        default=[],
        metavar="TRIAL",
        help="run a stored trial again: its id, or its beginning; may be repeated",
    )


def explores(arguments: argparse.Namespace) -> bool:
    """Whether a run is of something else than the whole spec as it stands in its file."""
    narrows = arguments.fast or arguments.only or arguments.targets or arguments.seeds or arguments.limit
    return bool(arguments.overrides or arguments.methods or narrows)


def narrowed_by(arguments: argparse.Namespace, loaded: LoadedSpec) -> LoadedSpec:
    """Spec narrowed by the command line.

    Raises
    ------
    SpecError
        When it does not have what the command line names.
    """
    from hdapbench.run.narrowing import narrowed

    methods, seeds = arguments.only, arguments.seeds
    if arguments.fast:
        methods, seeds = methods or _three_methods(loaded.spec), seeds or loaded.spec.seeds[:1]
    return narrowed(loaded, methods=methods, targets=arguments.targets, seeds=seeds)


def _three_methods(spec: Spec) -> list[str]:
    """The method that leads are told against, the last one of the spec, and the first of the others."""
    from hdapbench.spec import RankingSpec

    names = [method.name for method in spec.methods]
    reference = (spec.ranking or RankingSpec()).reference
    return list(dict.fromkeys([reference if reference in names else names[0], names[-1], *names]))[:3]


def board_place(arguments: argparse.Namespace, name: str) -> Path | None:
    """File that the board goes to; None where a run explores and names none."""
    output: Path | None = arguments.output
    return output or (None if explores(arguments) else BOARDS / f"{name}.md")


def asked_again(prefixes: Sequence[str], trials: Sequence[Trial]) -> set[str]:
    """Ids of the trials of ``--rerun``.

    Raises
    ------
    SpecError
        With every beginning that no trial of the spec has, or several.
    """
    from hdapbench.errors import SpecError, SpecProblem

    found: set[str] = set()
    problems = []
    for prefix in prefixes:
        ids = [trial.id for trial in trials if prefix and trial.id.startswith(prefix)]
        if len(ids) == 1:
            found.add(ids[0])
            continue
        what = (
            f"several trials begin so: {', '.join(ids[:6])}" if ids else "no trial of the spec has an id that begins so"
        )
        problems.append(SpecProblem(f"--rerun {prefix}", 0, 0, "", f"{what}; hdapbench check lists them"))
    if problems:
        raise SpecError(problems)
    return found


def same_command(arguments: argparse.Namespace) -> str:
    """The command line that goes on with a run, its options included."""
    words = ["hdapbench", "run", arguments.spec, *(["--fast"] if arguments.fast else [])]
    for option, values in (
        ("--set", arguments.overrides),
        ("--method", arguments.methods),
        ("--only", arguments.only),
        ("--target", arguments.targets),
    ):
        words += [word for value in values for word in (option, value)]
    for option, value in (
        ("--seeds", ",".join(map(str, arguments.seeds))),
        ("--limit", arguments.limit),
        ("--executor", arguments.executor),
        ("--workers", arguments.workers),
        ("--address", arguments.address),
        ("--shard", arguments.shard),
        ("--output", arguments.output),
    ):
        words += [option, str(value)] if value else []
    return shlex.join([*words, *workspace_of(arguments).words])


def _seeds(text: str) -> list[int]:
    return [seed_number(part.strip()) for part in text.split(",")]
