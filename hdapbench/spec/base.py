"""What all parts of a spec are made of: strict, frozen, unknown keys refused; and hints on words that are unknown."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


def sequence_to_tuple(value: object) -> object:
    """Tuple of a YAML list; anything else as it is, for Pydantic to judge."""
    return tuple(value) if isinstance(value, list) else value


NAME_LENGTH = 60
LOCATED = "located"
"""Type of errors that say themselves where in a spec they belong."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=NAME_LENGTH)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Problems = list[tuple[tuple[str | int, ...], str]]
"""Path in the spec, and what is wrong there."""


class Strict(BaseModel):
    """Base of all parts of a spec."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def refuse(problems: Sequence[tuple[tuple[str | int, ...], str]]) -> None:
    """Refuse a part of a spec for what is wrong at places below it, given as paths from there; nothing if nothing is.

    Raises
    ------
    PydanticCustomError
        That `hdapbench.spec.load` takes apart again.
    """
    if problems:
        text = "; ".join(f"{'.'.join(map(str, path))}: {message}" for path, message in problems)
        raise PydanticCustomError(LOCATED, "{text}", {"text": text, "problems": list(problems)})


def as_name(text: str) -> str:
    """Name that a spec may have, made of any text such as a file's name; it may be empty."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:NAME_LENGTH].strip("-")


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """`` did you mean 'x'? Known: a, b`` for a word that is none of ``known``."""
    names = list(known)
    close = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f"; did you mean '{close[0]}'?" if close else "."
    return f"{hint} Known: {', '.join(names)}"
