"""Forms that a board is written in, by the suffix of a file."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from hdapbench.errors import OutputError

if TYPE_CHECKING:
    from hdapbench.leaderboard.board import Leaderboard

FORMS = {
    "md": "hdapbench.render.markdown:render_markdown",
    "csv": "hdapbench.render.records:render_csv",
    "tex": "hdapbench.render.latex:render_latex",
    "json": "hdapbench.render.document:render_json",
}
"""Form -> function that renders a board as text; imported when it is asked for."""

DRAWN = ("html", "svg", "png")
"""Forms that `hdapbench.cli.board_forms` writes: a page, or pictures of fronts."""


def form_of(path: Path) -> str:
    """Form that a file's suffix stands for; markdown for a file without one.

    Raises
    ------
    OutputError
        When it stands for none.
    """
    form = path.suffix.lower().removeprefix(".") or "md"
    if form not in FORMS and form not in DRAWN:
        known = ", ".join(f".{known}" for known in (*FORMS, *DRAWN))
        raise OutputError(f"'{path}': no form of a board is called '{path.suffix}'; end the name with one of {known}")
    return form


def rendered(board: Leaderboard, form: str) -> str:
    """A board in one of `FORMS`."""
    module, _, function = FORMS[form].partition(":")
    text: str = getattr(importlib.import_module(module), function)(board)
    return text
