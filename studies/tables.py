"""What studies have in common at their ends: how options are read, how cells are written, and where a table goes in docs/."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from hdapbench.arrays import Floats

DOCS = Path(__file__).parents[1] / "docs"


def options(text: str | None, *, check: str = "") -> argparse.ArgumentParser:
    """Parser that shows a study's docstring as it stands; it has ``--check`` where ``check`` says what that does."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    if check:
        parser.add_argument("--check", action="store_true", help=check)
    return parser


def spread(values: Sequence[float] | Floats, form: str) -> str:
    """Mean over the seeds, and the least and the greatest."""
    if len(values) == 1:
        return f"{values[0]:{form}}"
    return f"{np.mean(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def publish(document: str, study: str, part: str, lines: Iterable[str], *, check: bool = False) -> None:
    """Print a table line by line as it is made; then, unless ``check``, put it between the marks of a study's part.

    Without marks it is only said to be missing.
    """
    made = []
    for line in lines:
        print(line, flush=True)
        made.append(line)
    if check:
        return
    path, text = DOCS / document, "\n".join(made)
    begin, end = (f"<!-- {part}: {mark} (python -m studies.{study}) -->" for mark in ("begin", "end"))
    before = path.read_text() if path.exists() else ""
    if begin not in before or end not in before:
        print(f"{path} has no marks for '{part}'; the table was only printed", file=sys.stderr)
        return
    head, rest = before.split(begin, 1)
    path.write_text(f"{head}{begin}\n\n{text}\n\n{end}{rest.split(end, 1)[1]}")
