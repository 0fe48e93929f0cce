"""All boards of a folder on one page: what each compares, which row is first in each table, and what leads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from hdapbench.leaderboard.board import Leaderboard, Section
from hdapbench.render.cells import significant
from hdapbench.render.sentences import about, leads_sentence
from hdapbench.render.web import marked, style, templates

N_RANKINGS = 6
"""Rankings of a board whose first rows its line names."""


def boards_index(boards: Sequence[Leaderboard]) -> str:
    """HTML that links the pages of boards, each ``NAME.html`` beside it."""
    return templates().get_template("index.html").render(boards=[_entry(board) for board in boards], style=style())


def _entry(board: Leaderboard) -> dict[str, Any]:
    return {
        "name": board.name,
        "link": quote(f"{board.name}.html"),
        "about": about(board),
        "firsts": [_first(board, section) for section in board.sections[:N_RANKINGS]],
        "others": max(0, len(board.sections) - N_RANKINGS),
        "leads": [(leads.fleet, marked(leads_sentence(leads))) for leads in board.leads],
        "warnings": board.warnings,
    }


def _first(board: Leaderboard, section: Section) -> tuple[str, str, str]:
    """Where a ranking is, its first row, and that row's numbers."""
    where = f"{section.target}, {section.fleet}"
    if not section.ranked:
        return where, "no row is ranked", ""
    first = section.ranked[0]
    speed = "" if first.speed_up is None else f"{first.speed_up.value:.2f}x dense, "
    accuracy = f"{board.metric} {first.accuracy.value * 100:.1f} %"
    return where, first.label, f"{significant(first.latency_ms.value)} ms, {speed}{accuracy}"
