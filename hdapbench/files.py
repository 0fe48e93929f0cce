"""Paths as they are written in specs: ``~``, ``${NAME}`` and ``${NAME:-default}``."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hdapbench.errors import DataError

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


def expand_path(text: str) -> Path:
    """Path with environment variables and the home directory filled in.

    Parameters
    ----------
    text
        May hold ``~``, ``${NAME}`` or ``${NAME:-default}``.

    Raises
    ------
    DataError
        When a variable without a default is not set.
    """

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match["name"]) or match["default"]
        if found is None:
            raise DataError(f"'{text}': the environment variable {match['name']} is not set; set it to a folder")
        return found

    return Path(_VARIABLE.sub(value, text)).expanduser()
