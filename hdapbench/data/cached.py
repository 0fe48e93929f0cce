"""Parts of a data set from the cache, decoded first where they are not there yet."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from hdapbench.data.cache import DecodedPart, read_part
from hdapbench.data.kinds import shown
from hdapbench.data.reading import SHOWN_NAMES, Reading, UnreadableError
from hdapbench.errors import DamagedCacheError, DataError


def cached_part(
    folder: Path,
    reading: Reading,
    names: Callable[[], list[str]],
    write: Callable[[list[str], dict[str, str]], None],
    *,
    read: Callable[[], DecodedPart | None] | None = None,
) -> DecodedPart:
    """Part under ``folder``, written first when it is not there.

    Parameters
    ----------
    folder
        Where the part is or will be.
    names
        Lists the files of the part; called only when it has to be written.
    write
        Decodes the given files into ``folder``; its second argument are the files left out, with reasons.
    read
        Reads the part, or gives None when it is not there; by default as decoded images.

    Raises
    ------
    DataError
        When files cannot be read and the reading does not allow that, or none can.
    """
    read = read or partial(read_part, folder)
    try:
        part = read()
    except DamagedCacheError as error:
        if reading.on_progress is not None:
            reading.on_progress(f"{error}; it is made again")
        _remove(folder)
        part = None
    if part is None:
        _write_readable(reading, names(), write)
        part = read()
    if part is None:
        raise DataError(f"'{folder}' vanished as soon as it was written; is something deleting files in the cache?")
    if part.layout.skipped and reading.corrupt == "fail":
        raise _refusal(reading.source, part.layout.skipped)
    if part.layout.left_out and reading.on_progress is not None:
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(part.layout.left_out.items())[:SHOWN_NAMES])
        total = sum(part.layout.left_out.values())
        reading.on_progress(f"{reading.source.name}: {total} files are left out, being no images in a class: {listed}")
    return part


def _remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)


def _write_readable(reading: Reading, names: list[str], write: Callable[[list[str], dict[str, str]], None]) -> None:
    """Write a part; when files turn out to be unreadable, once more without them if that is allowed."""
    skipped: dict[str, str] = {}
    while names:
        try:
            write(names, skipped)
        except UnreadableError as error:
            if reading.corrupt == "fail":
                raise _refusal(reading.source, error.files) from None
            skipped |= error.files
            names = [name for name in names if name not in skipped]
        else:
            if skipped and reading.on_progress is not None:
                reading.on_progress(f"{reading.source.name}: {len(skipped)} unreadable files left out")
            return
    raise _refusal(reading.source, skipped)


def _refusal(source: Path, files: Mapping[str, str]) -> DataError:
    listed = ", ".join(f"{shown(name)} ({reason})" for name, reason in list(files.items())[:SHOWN_NAMES])
    more = f" and {len(files) - SHOWN_NAMES} more" if len(files) > SHOWN_NAMES else ""
    return DataError(f"'{source}': cannot decode {listed}{more}; repair or remove them, or write data.corrupt: skip")
