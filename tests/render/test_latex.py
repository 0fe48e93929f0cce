"""Boards as LaTeX, through LaTeX itself."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hdapbench.cli.main import main
from hdapbench.render.latex import render_latex
from tests.render.test_forms import BASE, POISONS, poisoned

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "leaderboards/results").glob("*.jsonl.zst"))
LETTERS = "".join(map(chr, range(0x21, 0x250))) + "“”„–—…µ→≤≥×中文Ωя😀"  # noqa: RUF001 - letters of many alphabets


def has_booktabs() -> bool:
    """Whether pdflatex and what the tables ask for are installed."""
    if not (shutil.which("pdflatex") and shutil.which("kpsewhich")):
        return False
    command = ["kpsewhich", "booktabs.sty", "graphicx.sty", "textcomp.sty"]
    return subprocess.run(command, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not has_booktabs(), reason="needs pdflatex with booktabs (texlive-latex-recommended)")


def compiled(tables: str, folder: Path) -> list[str]:
    """Complaints of pdflatex about a paper with these tables, which it must set."""
    (folder / "tables.tex").write_text(tables)
    (folder / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,graphicx,textcomp}\n\\begin{document}\\input{tables}\\end{document}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    return [line for line in done.stdout.splitlines() if "Overfull" in line or "Warning" in line]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name.partition(".")[0])
def test_every_committed_board_is_set_within_the_margins(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["board", path.name.partition(".")[0], "--results", str(path), "--format", "tex"]) == 0

    assert compiled(capsys.readouterr().out, tmp_path) == []


def test_odd_texts_letters_of_all_alphabets_and_a_hundred_rankings_are_set(tmp_path: Path) -> None:
    odd = [poisoned(BASE, text) for text in (*POISONS, LETTERS)]
    long = replace(BASE, sections=BASE.sections * 100)

    compiled("".join(map(render_latex, [*odd, long])), tmp_path)
