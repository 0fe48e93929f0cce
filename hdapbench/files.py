"""Paths as specs write them, and files that are written whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Path to write a file to, which takes the place of ``path`` when the block ends without an error.

    Readers see the old file or the new one, never a part; after an error the old one stays and nothing is left beside
    it. The folder is made where it is missing. The file behind a link is replaced, the link stays. Devices and pipes,
    such as /dev/stdout, are written to as they are.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    if path.is_symlink():
        path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}-{path.name}")  # the suffix stays: writers look at it
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
