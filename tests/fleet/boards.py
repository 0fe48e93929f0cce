"""Fleets of boards of tests, each call of one a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hdapbench.spec import CommandFleetSpec

BOARD = Path(__file__).with_name("board.py")
HONEST = f"{sys.executable} {BOARD} {{name}} {{runs}} {{models}}"


def command_spec(*names: str, **changes: Any) -> CommandFleetSpec:
    """Fleet of boards that behave as their names say: honest-1, slow-2, nan-1, ..."""
    fields = {"name": "lab", "kind": "command", "run": HONEST, "devices": [{"name": name} for name in names]}
    return CommandFleetSpec.model_validate(fields | {"retries": 0, "runs": 3} | changes)
