"""What all parts of a spec are made of: strict, frozen, unknown keys refused; and hints on words that are unknown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


def sequence_to_tuple(value: object) -> object:
    """Tuple of a YAML list; anything else as it is, for Pydantic to judge."""
    return tuple(value) if isinstance(value, list) else value


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=60)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class Strict(BaseModel):
    """Base of all parts of a spec."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """`` did you mean 'x'? Known: a, b`` for a word that is none of ``known``."""
    names = list(known)
    close = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f"; did you mean '{close[0]}'?" if close else "."
    return f"{hint} Known: {', '.join(names)}"
