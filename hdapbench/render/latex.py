"""Leaderboard -> LaTeX: a booktabs table per ranking, to be put into a paper as a file of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from hdapbench.errors import printable
from hdapbench.leaderboard.board import Leaderboard, Row, Section
from hdapbench.render.cells import ABSENT, one_line
from hdapbench.render.sentences import rule_words, section_title
from hdapbench.render.table import Column, ranking_columns

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    "[": "{[}",  # after the end of a row it would begin a length
    "]": "{]}",
    "`": r"\textasciigrave{}",
    "±": r"\textpm{}",
    **{char: f"\\{char}" for char in "{}$&#%_"},
}
_SPECIAL = re.compile("|".join(map(re.escape, _ESCAPES)))
_UNKNOWN = re.compile("[^ -~¡-ž]|[«»ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲų]")
"""Characters that pdflatex stops at, with the packages named below."""
_AT_ONCE = 16
"""Tables that LaTeX can hold until there is a page for them: older ones have room for eighteen."""


def render_latex(board: Leaderboard) -> str:
    """LaTeX of a board's rankings, ending with a newline; it needs ``booktabs``, ``graphicx`` and ``textcomp``."""
    lines = ["% needs \\usepackage{booktabs,graphicx,textcomp}"]
    for number, section in enumerate(board.sections):
        lines += [r"\clearpage"] if number and not number % _AT_ONCE else []
        lines += ["", *_table(board, section)]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Text that LaTeX sets as it is written, in one line; letters that it does not know as their numbers."""
    known = _UNKNOWN.sub(lambda found: found[0].encode("unicode_escape").decode(), printable(one_line(text)))
    plain = _SPECIAL.sub(lambda found: _ESCAPES[found[0]], known)
    return re.sub("-(?=-)", "-{}", plain)  # two would be a dash


def _table(board: Leaderboard, section: Section) -> list[str]:
    columns = ranking_columns(board, section)
    adjusted = "".join("l" if column.title == "method" else "r" for column in columns)
    dense = [board.dense[section.fleet]] if section.fleet in board.dense else []
    caption = f"{board.name}: {section_title(board, section)}. Ranked: {rule_words(section)}."
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{escape(caption)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",  # what is too wide is set smaller
        rf"\begin{{tabular}}{{{adjusted}}}",
        r"\toprule",
        _line(escape(column.title) for column in columns),
    ]
    for rows in (dense, section.ranked, section.unranked):
        lines += [r"\midrule", *(_cells(columns, row) for row in rows)] if rows else []
    return [*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table}"]


def _cells(columns: Sequence[Column], row: Row) -> str:
    cells = [(column.title, column.cell(row)) for column in columns]
    return _line(escape(text) if title == "method" else _number(text) for title, text in cells)


def _number(text: str) -> str:
    """Cell of a number, with signs and ranges as they are set; nothing where there is none."""
    if text == ABSENT:
        return ""
    return re.sub(r"(?<=\d)-(?=\d)", "--", re.sub(r"(?<![\w.)])-(?=\d)", "$-$", escape(text)))


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
