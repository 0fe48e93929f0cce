"""What all parts of a spec are made of: strict, frozen, unknown keys refused."""

from __future__ import annotations

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
