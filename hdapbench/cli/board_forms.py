"""Forms of a board that the suffix of a file asks for: a page, or pictures of its fronts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hdapbench.cli.output import write_output
from hdapbench.errors import OutputError

if TYPE_CHECKING:
    from hdapbench.leaderboard.board import Leaderboard
    from hdapbench.render.board_page import Find
    from hdapbench.trial import Result


def write_picture_or_page(board: Leaderboard, results: Sequence[Result] | Find, path: Path) -> list[Path]:
    """Files written: a page to ``.html``, accuracy against latency to ``.svg`` or ``.png``, one picture per fleet.

    Of several fleets each picture has the fleet's name before its suffix: ``board-nano.svg``.

    Raises
    ------
    OutputError
        When a file cannot be written, or there is nothing to draw.
    """
    from hdapbench.render.board_page import board_page
    from hdapbench.render.front import front_picture

    if path.suffix == ".html":
        write_output(path, board_page(board, results))
        return [path]
    fleets = list(dict.fromkeys(section.fleet for section in board.sections if section.rows))
    if not fleets:
        raise OutputError(f"{path}: nothing to draw: no trial of '{board.name}' has numbers yet; see: hdapbench show")
    written = []
    for fleet in fleets:
        picture = front_picture(board, fleet, "png" if path.suffix == ".png" else "svg")
        written.append(path if len(fleets) == 1 else path.with_name(f"{path.stem}-{fleet}{path.suffix}"))
        write_output(written[-1], picture)
    return written


def write_index(boards: Sequence[Leaderboard], folder: Path) -> Path:
    """``index.html`` of a folder, which links ``NAME.html`` of each board."""
    from hdapbench.render.index_page import boards_index

    path = folder / "index.html"
    write_output(path, boards_index(boards))
    return path
