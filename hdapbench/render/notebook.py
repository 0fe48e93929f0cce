"""Leaderboard -> a piece of HTML for notebooks: its rankings, with what they say."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from hdapbench.errors import printable
from hdapbench.leaderboard.board import Leaderboard, Section
from hdapbench.render.sentences import answer, section_title
from hdapbench.render.table import ranking_columns


def notebook_html(board: Leaderboard) -> str:
    """HTML without scripts or styles of its own, in which names of others are text."""
    environment = Environment(
        loader=PackageLoader("hdapbench.render"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    sections = [_section(board, section) for section in board.sections]
    warnings = list(map(printable, board.warnings))
    return environment.get_template("notebook.html").render(name=board.name, warnings=warnings, sections=sections)


def _section(board: Leaderboard, section: Section) -> dict[str, object]:
    columns = ranking_columns(board, section)
    dense = [board.dense[section.fleet]] if section.fleet in board.dense else []
    rows = [[printable(column.cell(row)) for column in columns] for row in (*dense, *section.rows)]
    return {
        "title": printable(section_title(board, section)),
        "answer": printable(answer(board, section).replace("**", "")),
        "warnings": list(map(printable, section.warnings)),
        "columns": [column.title for column in columns],
        "rows": rows,
        "gaps": [printable(f"{gap.label}, seed {gap.seed}: {gap.status}: {gap.reason}") for gap in section.gaps],
    }
