"""Leaderboard -> terminal: a table with colour on a terminal, plain text in a pipe."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hdapbench.errors import printable
from hdapbench.leaderboard.board import Leaderboard, Section
from hdapbench.render.cells import one_line, significant
from hdapbench.render.sentences import answer, leads_sentence, rule_words, section_title
from hdapbench.render.table import ranking_columns

NARROW = 100
"""Columns of a terminal below which a table leaves out what follows from the rest."""


def print_leaderboard(board: Leaderboard, console: Console | None = None) -> None:
    """Print a board on stdout, or on the given console."""
    out = console or Console(width=None if Console().is_terminal else 160)

    def say(text: str, style: str | None = None) -> None:
        out.print(_plain(text.replace("**", "")), style=style, highlight=False)

    for section in board.sections:
        out.print()
        say(f"{board.name}: {section_title(board, section)}", "bold")
        if section.ranked:
            out.print(_table(board, section, is_narrow=out.width < NARROW))
        say(answer(board, section))
        for said in section.warnings:
            say(said, "yellow")
        for said in _without_rank(section):
            say(said)
    if not board.sections:
        say(f"{board.name}: no trial has ended yet")
    if board.leads:
        out.print()
    for leads in board.leads:
        say(f"fleet {leads.fleet}: {leads_sentence(leads)}", "bold")
    for said in board.warnings:
        say(said, "yellow")


def _without_rank(section: Section) -> Iterator[str]:
    """Rows that lose too much accuracy, and trials without numbers."""
    if section.unranked:
        rows = [
            f"{row.label} ({significant(row.latency_ms.value)} ms, {row.accuracy.value:.1%}, "
            f"misses by {(row.missed_by or 0) * 100:.1f} points)"
            for row in section.unranked
        ]
        yield f"Not ranked, for they are not {rule_words(section)}: {'; '.join(rows)}."
    for gap in section.gaps:
        yield f"{gap.label}, seed {gap.seed}: {gap.status}: {one_line(gap.reason)}"


def _plain(text: str) -> str:
    """Text that is no markup and moves no cursor."""
    return escape(printable(text))


def _table(board: Leaderboard, section: Section, *, is_narrow: bool) -> Table:
    columns = ranking_columns(board, section, is_narrow=is_narrow)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        is_name = column.title == "method"
        table.add_column(column.title, justify="left" if is_name else "right", no_wrap=not is_name)
    if section.fleet in board.dense:
        table.add_row(*(_plain(column.cell(board.dense[section.fleet])) for column in columns), style="dim")
    for row in section.ranked:
        cells = [_plain(column.cell(row)) for column in columns]
        table.add_row(*cells, style="bold" if row.rank == 1 else None)
    return table
