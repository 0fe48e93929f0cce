"""Board: a leaderboard as a notebook wants it; and those of a workspace, by name or spec."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdapbench.errors import MissingExtraError, StoreError
from hdapbench.leaderboard.board import Leaderboard, Leads, Section
from hdapbench.leaderboard.build import build_leaderboard
from hdapbench.render.markdown import render_markdown
from hdapbench.render.notebook import notebook_html
from hdapbench.render.records import COLUMNS, TEXT_COLUMNS, WHOLE_COLUMNS, Record, records
from hdapbench.render.table import answer
from hdapbench.run.grid import named_by_content
from hdapbench.run.workspace import Workspace
from hdapbench.spec import load, spec_hash
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
        What it was made of, one per trial, with raw latencies and plans.
    """

    leaderboard: Leaderboard
    results: tuple[Result, ...]

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


def board(name: str | Path, *, workspace: str | Path = WORKSPACE) -> Board:
    """Board of what has run in a workspace.

    Parameters
    ----------
    name
        Name of a benchmark, whose spec registered last is meant, or its spec file.
    workspace
        Folder of the database.

    Raises
    ------
    StoreError
        When nothing of this name has run there.
    """
    benchmark, found = _stored(name, Path(workspace))
    return Board(build_leaderboard(benchmark, found), tuple(found))


def results(name: str | Path, *, workspace: str | Path = WORKSPACE) -> list[Result]:
    """Results of a benchmark's trials, in the order of its grid; the parameters and errors are those of `board`."""
    return _stored(name, Path(workspace))[1]


def _stored(name: str | Path, workspace: Path) -> tuple[Benchmark, list[Result]]:
    database, digest = Workspace(workspace).database, None
    if not database.exists():
        raise StoreError(f"there is no database '{database}'; run a spec first, or name its folder with workspace=")
    if Path(name).suffix in {".yaml", ".yml"}:
        spec = named_by_content(load(name))
        name, digest = spec.name, spec_hash(spec)
    with open_store(database) as store:
        benchmark = store.benchmark(str(name), spec_hash=digest)
        return benchmark, store.results(trial_ids=benchmark.trial_ids)
