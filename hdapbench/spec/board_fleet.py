"""What specs of fleets of real boards share: the boards, named or in an inventory, and how a visit is judged."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, model_validator

from hdapbench.errors import FleetError
from hdapbench.files import expand_path
from hdapbench.spec.base import Name, Strict, did_you_mean, refuse, sequence_to_tuple
from hdapbench.spec.fleets import FleetSpec

FIELD = re.compile(r"\{([a-z_]+)\}")


class BoardSpec(Strict):
    """A board."""

    name: Name = Field(description="Name of the board.")
    at: str | None = Field(
        default=None,
        min_length=1,
        description="What {at} stands for, null: the name; of kind ray its resource, null: board:NAME.",
    )


Boards = Annotated[tuple[BoardSpec, ...], BeforeValidator(sequence_to_tuple)]


class BoardFleetSpec(FleetSpec):
    """Boards that are visited one at a time."""

    file_key: ClassVar[str | None] = "inventory"
    is_live: ClassVar[bool] = True

    devices: Boards | None = Field(default=None, description="The boards; or an inventory.")
    inventory: str | None = Field(default=None, min_length=1, description="YAML file with a list of boards.")
    timeout_seconds: float = Field(default=300.0, gt=0, le=86_400, description="Seconds that one command may take.")
    retries: int = Field(
        default=1,
        ge=0,
        le=10,
        description="Times that a visit is repeated that failed, or found the board half as fast.",
    )
    batch: int = Field(default=1, ge=1, le=1024, description="Inputs per run.")
    seed: int = Field(default=0, ge=0, description="Seed of the order of measuring.")
    rounds: int = Field(default=3, ge=1, le=20, description="Rounds that repeats are spread over.")
    drift: Literal["divide", "keep"] = Field(
        default="divide", description="Divide out by how much a fixed reference network became slower since the start."
    )

    @property
    def file(self) -> str | None:
        """The inventory, as the spec writes it."""
        return self.inventory

    @model_validator(mode="after")
    def _boards_are_named_once(self) -> Self:
        if (self.devices is None) == (self.inventory is None):
            refuse([(("devices",), f"a {self.kind} fleet lists its devices, or names an inventory")])
        problem = None if self.devices is None else _problem_of(self.devices)
        if problem is not None:
            refuse([(("devices",), problem)])
        return self

    def boards(self) -> tuple[BoardSpec, ...]:
        """The boards, those of the inventory read now.

        Raises
        ------
        FleetError
            When the inventory cannot be read, or is no list of boards.
        """
        if self.devices is not None:
            return self.devices
        path = expand_path(str(self.inventory))
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            boards: tuple[BoardSpec, ...] = TypeAdapter(Boards).validate_python(content)
        except OSError as error:
            raise FleetError(f"the inventory '{path}' cannot be read: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise FleetError(
                f"the inventory '{path}' is no list of boards, such as '- {{name: nx-017, at: 10.0.0.17}}': "
                f"{place + ': ' if place else ''}{first['msg']}"
            ) from None
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise FleetError(f"the inventory '{path}' is no YAML: {' '.join(str(error).split())[:200]}") from None
        problem = _problem_of(boards)
        if problem is not None:
            raise FleetError(f"the inventory '{path}': {problem}")
        return boards

    def located(self, folder: Path) -> Self:
        """The same fleet, whose inventory is found from anywhere."""
        return self if self.inventory is None else self.with_file(str(folder / expand_path(self.inventory)))


def checked_template(template: str, known: tuple[str, ...], needed: str) -> str:
    """The template of a command, whose fields are known and hold the one that is needed.

    Raises
    ------
    ValueError
        With what is wrong.
    """
    try:
        shlex.split(template)
    except ValueError as error:
        raise ValueError(f"it cannot be taken apart: {error}") from None
    for field in FIELD.findall(template):
        if field not in known:
            raise ValueError(f"unknown field {{{field}}}{did_you_mean(field, known)}")
    if f"{{{needed}}}" not in template:
        raise ValueError(f"the field {{{needed}}} is missing")
    return template


def _problem_of(boards: tuple[BoardSpec, ...]) -> str | None:
    names = [board.name for board in boards]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names:
        return "a fleet needs at least one board"
    return f"{twice} are named twice" if twice else None
