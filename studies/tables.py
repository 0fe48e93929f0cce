"""Tables of studies: how cells are written, and how a table gets between its marks in the documentation."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hdapbench.arrays import Floats


def spread(values: Sequence[float] | Floats, form: str) -> str:
    """Mean over the seeds, and the least and the greatest."""
    if len(values) == 1:
        return f"{values[0]:{form}}"
    return f"{np.mean(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def write(path: Path, study: str, part: str, text: str) -> None:
    """Put a table between the marks of a study's part; without marks it is only said to be missing."""
    begin, end = (f"<!-- {part}: {mark} (python -m studies.{study}) -->" for mark in ("begin", "end"))
    document = path.read_text() if path.exists() else ""
    if begin not in document or end not in document:
        print(f"{path} has no marks for '{part}'; the table was only printed", file=sys.stderr)
        return
    head, rest = document.split(begin, 1)
    path.write_text(f"{head}{begin}\n\n{text}\n\n{end}{rest.split(end, 1)[1]}")
