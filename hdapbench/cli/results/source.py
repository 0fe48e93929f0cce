"""Where the results of a benchmark are found: in the database, or in the file beside its board."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hdapbench.render.board_page import Find
    from hdapbench.run.workspace import Workspace
    from hdapbench.store.brief import Brief
    from hdapbench.store.place import Place
    from hdapbench.store.sqlite import Benchmark
    from hdapbench.store.travel import Travelling
    from hdapbench.trial import Result

BOARDS, RESULTS, SUFFIX = Path("leaderboards"), "results", ".jsonl.zst"


@dataclass(frozen=True)
class Found:
    """A benchmark, what its board takes of its results, and what they were read from.

    Attributes
    ----------
    find
        Results of trials, from their ids: a board of many would not hold them all.
    """

    benchmark: Benchmark
    briefs: Sequence[Brief]
    origin: str
    find: Find

    @cached_property
    def results(self) -> list[Result]:
        """All of them, in the order of the benchmark."""
        return list(self.find(self.benchmark.trial_ids))


def results_beside(board: Path) -> Path:
    """File of the results that a board shows: in the folder ``results`` beside it."""
    return board.parent / RESULTS / f"{board.stem}{SUFFIX}"


def named_benchmark(text: str) -> tuple[str, str | None]:
    """Name of a benchmark and, of a spec file, the hash of the spec that it holds."""
    if not text.endswith((".yaml", ".yml")):
        return text, None
    from hdapbench.run.grid import named_by_content
    from hdapbench.spec import load, spec_hash

    spec = named_by_content(load(text))
    return spec.name, spec_hash(spec)


def find_results(
    name: str,
    *,
    workspace: Workspace,
    board: Path | None = None,
    file: Path | None = None,
    spec_hash: str | None = None,
) -> Found:
    """Results of a benchmark: those of a named file, else of the database, else of the file beside the board.

    Raises
    ------
    StoreError
        When there are none, or they cannot be read.
    """
    from hdapbench.errors import StoreError

    boards = [path for path in (board, BOARDS / f"{name}.md") if path is not None]
    beside = next((path for path in map(results_beside, boards) if path.is_file()), None)
    if file is None:
        database = workspace.database
        if beside is None and not database.exists():
            raise StoreError(
                f"there is no database '{database}', and no file '{results_beside(boards[0])}'; "
                "run a spec first, or name the folder with --workspace, or the file"
            )
        stored = _in_database(name, database, spec_hash, is_needed=beside is None)
        if stored is not None:
            return stored
    return of_file(read_named(file or beside, name), str(file or beside))


def of_place(text: str) -> Found | None:
    """What a file of results or the files of a folder hold; None where a text names neither.

    Raises
    ------
    StoreError
        When they cannot be read or put together.
    """
    from hdapbench.run.merging import is_results, results_at

    return of_file(results_at(Path(text)), text) if is_results(text) else None


def of_file(found: Travelling, origin: str) -> Found:
    """What a file of results holds."""
    from hdapbench.store.brief import brief_of

    by_id = {result.trial.id: result for result in found.results}
    briefs = [brief_of(result) for result in found.results]
    return Found(
        found.benchmark, briefs, origin, lambda ids: [by_id[trial_id] for trial_id in ids if trial_id in by_id]
    )


def _in_database(name: str, database: Place, spec_hash: str | None, *, is_needed: bool) -> Found | None:
    """What the database holds; None, unless it is needed, where it has no such benchmark, or not of that spec."""
    from hdapbench.store.sqlite import open_store

    if not database.exists():
        return None
    with open_store(database) as store:
        if not is_needed and name not in store.benchmarks():
            return None
        benchmark = store.benchmark(name, spec_hash=spec_hash)
        if not is_needed and spec_hash not in (None, benchmark.spec_hash):
            return None
        briefs = store.briefs(trial_ids=benchmark.trial_ids)

    def find(trial_ids: Sequence[str]) -> list[Result]:
        with open_store(database) as store:
            return store.results(trial_ids=trial_ids)

    return Found(benchmark, briefs, "the database", find)


def read_named(file: Path | None, name: str) -> Travelling:
    """What a file holds, which must be results of the benchmark of that name.

    Raises
    ------
    StoreError
        When it is not.
    """
    from hdapbench.errors import StoreError
    from hdapbench.store.travel import read_travelling

    if file is None:
        raise StoreError(f"there are no results of '{name}'; run its spec first, or name a file with --results")
    found = read_travelling(file)
    if found.benchmark.name != name:
        raise StoreError(f"'{file}' holds results of '{found.benchmark.name}', not of '{name}'")
    return found
