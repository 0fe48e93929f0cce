"""Leaderboard -> terminal: a table with colour on a terminal, plain text in a pipe."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hdapbench.errors import printable
from hdapbench.leaderboard.build import Leaderboard, Section
from hdapbench.render.table import answer, mark_meanings, one_line, ranking_cells, ranking_header, section_title


def print_leaderboard(board: Leaderboard, console: Console | None = None) -> None:
    """Print a board on stdout, or on the given console."""
    out = console or Console(width=None if Console().is_terminal else 160)
    for section in board.sections:
        out.print()
        out.print(f"[bold]{_plain(board.name)}[/bold]: {_plain(section_title(board, section))}", highlight=False)
        out.print(_table(board, section))
        out.print(_plain(answer(section, board.metric).replace("**", "")), highlight=False)
        for gap in section.gaps:
            out.print(
                f"{_plain(gap.label)}, seed {gap.seed}: {gap.status}: {_plain(one_line(gap.reason))}", highlight=False
            )
    if not board.sections:
        out.print(f"{_plain(board.name)}: no trial has ended yet")
    used = [f"{mark} {meaning}" for mark, meaning in mark_meanings(board).items()]
    out.print("[dim]" + _plain("; ".join(used)) + "[/dim]", highlight=False)


def _plain(text: str) -> str:
    """Text that is no markup and moves no cursor."""
    return escape(printable(text))


def _table(board: Leaderboard, section: Section) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ranking_header(board):
        table.add_column(name.replace(" (", "\n("), justify="left" if name == "method" else "right", overflow="fold")
    if section.fleet in board.dense:
        table.add_row(*map(_plain, ranking_cells(board.dense[section.fleet])), style="dim")
    for row in section.rows:
        table.add_row(*map(_plain, ranking_cells(row)), style="bold" if row.rank == 1 else None)
    return table
