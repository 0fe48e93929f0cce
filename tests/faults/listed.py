"""The list of faults and attacks, and the table of what came of it."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import chain, takewhile
from pathlib import Path

from tests.faults import bombs, endings, fuzzing, on_files, plugins, runs, stage
from tests.faults.arena import OUTCOMES, Attack, Fate, counted, fates
from tests.faults.stage import Stage

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
IMPORTED = (
    *("torch", "torchvision", "polars", "scipy.stats", "scipy.optimize", "sklearn.cluster", "sklearn.mixture"),
    *("PIL.Image", "rich.console", "rich.table", "torch_pruning", "hdapbench.run.attempt", "hdapbench.cli.run"),
    *("hdapbench.run.inspection", "hdapbench.fleet.open", "hdapbench.fleet.estimate.clustered"),
    *("hdapbench_methods.uniform", "hdapbench_methods.fpgm", "hdapbench.leaderboard.build"),
)
"""What attacks use: imported once, in the process that all others are copies of."""

PARTS = (
    *(stage.workspace, stage.pictures, stage.packed, stage.recordings),
    endings.pictures_board,
    *(on_files.base_hash, on_files.decoded, on_files.artifact, plugins.alone, fuzzing.made),
)
FEW_INPUTS = 10_000


def attacks(made: Stage, share: float, inputs: int) -> dict[str, Callable[[], Iterator[Attack]]]:
    """Attacks by name; of those that are many, this share."""

    def many(kind: Callable[[Stage, int], Iterator[Attack]], n: int) -> Callable[[], Iterator[Attack]]:
        return lambda: kind(made, max(1, round(n * share)))

    return {
        "database": many(on_files.on_database, 300),
        "base": many(on_files.on_base_cache, 200),
        "decoded": many(on_files.on_decoded_images, 162),
        "fleets": many(on_files.on_fleets, 2000),
        "artifacts": many(on_files.on_artifacts, 600),
        "packed": many(on_files.on_packed, 400),
        "kernels": many(on_files.on_kernels, 269),
        "plugins": lambda: plugins.on_plugins(made, min(1.0, share)),
        "images": lambda: runs.on_images(made),
        "full": lambda: runs.disk_full(made),
        "at-once": lambda: runs.at_once(made),
        "killed": many(endings.killed, 50),
        "checkpoints": many(endings.on_checkpoints, 40),
        "deleted": many(endings.deleted, 40),
        "read-only": lambda: endings.read_only(made),
        "clocks": lambda: endings.clocks(made),
        "midway": lambda: endings.data_midway(made),
        "diverging": lambda: endings.diverging(made),
        "outputs": lambda: runs.on_outputs(made),
        "bombs": lambda: bombs.bombs(made),
        "code": lambda: bombs.code_in_data(made),
        "fuzz": lambda: (fuzzing.by_coverage if inputs > FEW_INPUTS else fuzzing.by_mutation)(made, inputs),
    }


BEFORE = {
    "results.db damaged": "300: 36 tracebacks, 5 silent",
    "base cache damaged": "200: 133 silent",
    "decoded images damaged": "162: 104 silent",
    "plug-in misbehaviour": "98: 18 end the run, 11 alter other rows, 1 not stopped",
    "fleets as CSV, Parquet, fingerprints": "2,000: 5 panics",
    "plan / description / state of artifacts": "27 tracebacks, 9 silent",
    "descriptions of plans and kernels": "71 tracebacks",
    "packed networks": "4 tracebacks",
    "image folder oddities": "40: 34 right",
    "2 and 8 runs of a spec at once, three settings under one name": "3: 1 false failure, 2 of 3 boards wrong",
    "disk full": "9: 3 SIGBUS, 1 traceback",
}
"""What was found when the list was tried for the first time."""

HEADER = """\
# What was tried against it

`make faults` carries out a list of faults, bad inputs and attacks, each in a process of its own, and writes this table; a row is
replaced when its attacks are carried out again (`python -m tests.faults --only plugins --write`). `make fuzz` tries 100,000 inputs
made of real ones, guided by the code that they reach; CI tries 2,000 and a share of the list. `FAULTS="--executor process"` runs
all in worker processes; three methods that no run withstands in its own process always run there. *Right* is the right answer, or a refusal in a line, and for faults that end a run: the board of a run that
nothing happened to, with nothing left behind. *Tracebacks* are errors that nobody foresaw. *Silent wrong* is a number or a network
that changed without a word. *Other* is what ends by a signal, hangs, takes more than a gigabyte, runs code that lies in data, moves
the terminal's cursor, or leaves processes or unfinished files behind. Damage is drawn at random from a seed: bits, blocks of 512
zeros, cuts, parts repeated, left out or replaced.

"""
COLUMNS = "| fault or input | before | tried | right | tracebacks | silent wrong | other |"


def run() -> int:
    """Exit code: 0 when every attack ended right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the damaged and changed files (default: all)")
    parser.add_argument("--jobs", type=int, default=2, help="attacks at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="after which no further attack begins")
    parser.add_argument("--only", nargs="+", default=[], help="some of the list")
    parser.add_argument("--inputs", type=int, default=2000, help="of fuzzing; many are guided by coverage")
    parser.add_argument("--executor", help="of all runs, as hdapbench run --executor takes it")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args()
    if options.executor:
        os.environ[stage.EXECUTOR] = options.executor
    started = time.monotonic()
    warnings.simplefilter("ignore")
    for name in IMPORTED:
        importlib.import_module(name)
    with stage.built(*PARTS, seed=options.seed) as made:
        chosen = attacks(made, options.share, options.inputs)
        listed = chain.from_iterable(chosen[name]() for name in options.only or chosen)
        last = time.monotonic() + 60 * options.minutes
        in_time = takewhile(lambda _: time.monotonic() < last, listed)
        found = list(_told(fates(in_time, jobs=options.jobs)))
    lines = rows(found)
    if options.write:
        text = PAGE.read_text() if PAGE.exists() else ""
        kept = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
        kept.pop("fault or input", None)
        PAGE.write_text(HEADER + table(kept | lines))
    print(table(lines))
    print(f"{len(found)} attacks in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return int(any(fate.outcome != "right" for fate in found))


def _told(found: Iterator[Fate]) -> Iterator[Fate]:
    for fate in found:
        if fate.outcome != "right":
            print(f"{fate.attack.fault}, {fate.attack.name}: {fate.outcome}: {fate.why}", file=sys.stderr, flush=True)
        yield fate


def rows(found: list[Fate]) -> dict[str, str]:
    """Fault -> its row."""
    return {
        fault: f"| {fault} | {BEFORE.get(fault, '')} | {n.total()} | "
        + " | ".join(str(n[outcome]) for outcome in OUTCOMES)
        + " |"
        for fault, n in counted(found).items()
    }


def table(lines: dict[str, str]) -> str:
    """Markdown."""
    return "\n".join([COLUMNS, "|---|---|--:|--:|--:|--:|--:|", *lines.values()]) + "\n"
