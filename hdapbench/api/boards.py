"""Board: a leaderboard as a notebook wants it; and those of a workspace, by name or spec."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdapbench.errors import MissingExtraError, StoreError
from hdapbench.leaderboard.board import Leaderboard, Leads, Section
from hdapbench.leaderboard.build import build_from_briefs, build_leaderboard
from hdapbench.render.markdown import render_markdown
from hdapbench.render.notebook import notebook_html
from hdapbench.render.records import COLUMNS, TEXT_COLUMNS, WHOLE_COLUMNS, Record, records
from hdapbench.render.sentences import answer
from hdapbench.run.grid import named_by_content
from hdapbench.run.merging import is_results, results_at
from hdapbench.run.workspace import Workspace
from hdapbench.spec import load, spec_hash
from hdapbench.store.place import Place, named_place
from hdapbench.store.sqlite import Benchmark, open_store
from hdapbench.trial import Result

if TYPE_CHECKING:
    import altair as alt
    import polars as pl

WORKSPACE = Path(".hdapbench")


@dataclass(frozen=True, repr=False)
class Board:
    """A leaderboard. In a notebook it shows its rankings.

    Attributes
    ----------
    leaderboard
        Everything that the board knows, as values: rows with intervals, rules, leads, provenance.
    results
        What it was made of, one per trial, with raw latencies and plans; read when they are first asked for.
    """

    leaderboard: Leaderboard
    _read: Callable[[], Sequence[Result]] = field(compare=False)

    @cached_property
    def results(self) -> tuple[Result, ...]:
        """What the board was made of: see above."""
        return tuple(self._read())

    @property
    def rows(self) -> list[Record]:
        """One record per row and section, with all numbers and the ends of their intervals: see `COLUMNS`."""
        return records(self.leaderboard)

    @property
    def sections(self) -> tuple[Section, ...]:
        """Rankings, one per target and fleet."""
        return self.leaderboard.sections

    @property
    def leads(self) -> tuple[Leads, ...]:
        """How much faster (or smaller) methods are at equal accuracy, over all targets."""
        return self.leaderboard.leads

    @property
    def answers(self) -> list[str]:
        """What each ranking says, in a sentence."""
        return [f"{section.target}, {section.fleet}: {answer(self.leaderboard, section)}" for section in self.sections]

    def frame(self) -> pl.DataFrame:
        """The rows as a data frame of polars."""
        import polars as pl

        types = {name: pl.Int64 if name in WHOLE_COLUMNS else pl.Float64 for name in COLUMNS}
        return pl.DataFrame(self.rows, schema=types | dict.fromkeys(TEXT_COLUMNS, pl.String), strict=False)

    def to_pandas(self) -> Any:
        """The rows as a ``pandas.DataFrame``.

        Raises
        ------
        MissingExtraError
            When pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            raise MissingExtraError("pandas", "pandas", "a data frame of pandas") from error
        return pd.DataFrame(self.rows, columns=list(COLUMNS))

    def plot(self) -> alt.TopLevelMixin:
        """Chart of accuracy against latency, with intervals; a notebook shows it, and it can be saved."""
        from hdapbench.render.chart import accuracy_against_latency

        return accuracy_against_latency(self.leaderboard)

    def to_markdown(self) -> str:
        """The board as ``hdapbench board`` writes it."""
        return render_markdown(self.leaderboard)

    def _repr_html_(self) -> str:
        return notebook_html(self.leaderboard)

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def __repr__(self) -> str:
        board = self.leaderboard
        ended = f"board '{board.name}': {board.n_finished} of {board.n_trials} trials have ended"
        return "\n".join([ended, *(said.replace("**", "") for said in self.answers)])


def board(name: str | Path, *, workspace: str | Path = WORKSPACE, store: str | Path | None = None) -> Board:
    """Board of what has run in a workspace, or of a file of results.

    Parameters
    ----------
    name
        Name of a benchmark, whose spec registered last is meant, or its spec file; or a file of results
        (``.jsonl.zst``), or a folder of such files, which are put together.
    workspace
        Folder of the database.
    store
        URL or file of another database, by default what ``HDAPBENCH_STORE`` names.

    Raises
    ------
    StoreError
        When nothing of this name has run there, or files cannot be read or put together.
    """
    if is_results(name):
        found = results_at(Path(name))
        return Board(build_leaderboard(found.benchmark, found.results), lambda: found.results)
    benchmark, database = _registered(name, workspace_with(workspace, store))
    with open_store(database) as opened:
        made = build_from_briefs(benchmark, opened.briefs(trial_ids=benchmark.trial_ids))
    return Board(made, lambda: _read(database, benchmark))


def results(name: str | Path, *, workspace: str | Path = WORKSPACE, store: str | Path | None = None) -> list[Result]:
    """Results of a benchmark's trials, in the order of its grid; the parameters and errors are those of `board`."""
    if is_results(name):
        return list(results_at(Path(name)).results)
    benchmark, database = _registered(name, workspace_with(workspace, store))
    return _read(database, benchmark)


def workspace_with(workspace: str | Path, store: str | Path | None) -> Workspace:
    """Workspace that a caller names, with its store.

    Raises
    ------
    StoreError
        When the store is named by a URL that is not understood.
    """
    return Workspace(Path(workspace), named_place(None if store is None else str(store)))


def _read(database: Place, benchmark: Benchmark) -> list[Result]:
    with open_store(database) as store:
        return store.results(trial_ids=benchmark.trial_ids)


def _registered(name: str | Path, workspace: Workspace) -> tuple[Benchmark, Place]:
    """A benchmark, and the database that it is registered in."""
    database, digest = workspace.database, None
    if not database.exists():
        raise StoreError(
            f"there is no database '{database}'; run a spec first, or name its folder with workspace=, or store="
        )
    if Path(name).suffix in {".yaml", ".yml"}:
        spec = named_by_content(load(name))
        name, digest = spec.name, spec_hash(spec)
    with open_store(database) as store:
        return store.benchmark(str(name), spec_hash=digest), database
