"""Spec of a fleet of boards that joined a Ray cluster."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from hdapbench.spec.board_fleet import BoardFleetSpec, BoardSpec, checked_template

FIELDS = ("name", "at", "models", "runs", "runner", "python")
ADDRESS = re.compile(r"(ray://)?[^\s/:]+:\d{1,5}")
PREFIX = "board:"


class RayFleetSpec(BoardFleetSpec):
    """Boards that joined a Ray cluster, each with a resource of its own: measurements are tasks that need it."""

    not_in_ids: ClassVar[frozenset[str]] = frozenset({"address"})

    kind: Literal["ray"] = Field(description="Where latencies come from.")
    address: str = Field(
        default="127.0.0.1:6379",
        description="HOST:PORT of the cluster's head, or ray://HOST:PORT of its client server.",
    )
    run: str = Field(
        default="{python} {runner} --runs {runs} {models}",
        min_length=1,
        description="Command that times {models}, {runs} runs each, on a board; {python} is the one that Ray runs in.",
    )

    @field_validator("address")
    @classmethod
    def _address_has_a_port(cls, address: str) -> str:
        if not ADDRESS.fullmatch(address):
            raise ValueError("write HOST:PORT, such as 10.0.0.1:6379, or ray://HOST:PORT")
        return address

    @field_validator("run")
    @classmethod
    def _fields_are_known(cls, template: str) -> str:
        return checked_template(template, FIELDS, "models")

    @staticmethod
    def resource(board: BoardSpec) -> str:
        """Resource by which a board joined the cluster."""
        return board.at or f"{PREFIX}{board.name}"

    def code(self, folder: Path) -> tuple[str, dict[str, Any]]:  # noqa: ARG002
        """The cluster, whose nodes may run code here too, and what is run on its boards."""
        return f"ray at {self.address}", {"run": self.run}
