"""Spec of a fleet of boards that commands reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from hdapbench.spec.board_fleet import BoardFleetSpec, checked_template

FIELDS = {
    "push": ("name", "at", "file", "remote"),
    "run": ("name", "at", "models", "runs", "runner"),
}
"""Command -> what it may hold in braces."""


class CommandFleetSpec(BoardFleetSpec):
    """Boards that commands reach: each is pushed model files, and runs them."""

    kind: Literal["command"] = Field(description="Where latencies come from.")
    push: str | None = Field(
        default=None,
        min_length=1,
        description="Command that copies {file} to {remote} on a board; null: boards see the files of this host.",
    )
    run: str = Field(
        min_length=1,
        description="Command that times {models}, {runs} runs each, on a board, and prints samples as JSON.",
    )
    remote_dir: str = Field(default="/tmp", min_length=1, description="Folder on the boards for {remote}.")  # noqa: S108
    shell: bool = Field(default=False, description="Whether the commands are lines for /bin/sh.")

    @field_validator("push", "run")
    @classmethod
    def _fields_are_known(cls, template: str | None, info: Any) -> str | None:
        if template is None:
            return None
        return checked_template(template, FIELDS[info.field_name], "models" if info.field_name == "run" else "file")

    def code(self, folder: Path) -> tuple[str, dict[str, Any]]:
        """The commands, and the boards that stand in them: other boards are other commands."""
        boards = [board.model_dump(mode="json") for board in self.located(folder).boards()]
        about = {"push": self.push, "shell": self.shell, "remote_dir": self.remote_dir, "boards": boards}
        return self.run, about
