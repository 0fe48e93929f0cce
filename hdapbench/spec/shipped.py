"""Specs that ship: found by name where no file of the user's has it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from hdapbench.errors import SpecError, SpecProblem
from hdapbench.spec.base import did_you_mean

PACKAGE = "hdapbench_specs"


def shipped_specs() -> dict[str, Path]:
    """Name -> file of every spec that ships."""
    folder = Path(str(files(PACKAGE)))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def spec_file(text: str) -> str:
    """File that a command line names: a path as it is, or the name of a spec that ships.

    Raises
    ------
    SpecError
        When it is neither a file nor such a name.
    """
    if Path(text).exists() or Path(text).suffix in {".yaml", ".yml"} or len(Path(text).parts) > 1:
        return text
    shipped = shipped_specs()
    if text not in shipped:
        message = f"is no file and no spec that ships{did_you_mean(text, shipped)}"
        raise SpecError([SpecProblem(text, 0, 0, "", message)])
    return str(shipped[text])
