"""Files of a data set, in a folder or in a tar archive that is read in place. Links are followed."""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hdapbench.data.archive import index, read_members
from hdapbench.data.kinds import (
    AUDIO_SUFFIX,
    IMAGE_SUFFIXES,
    MAX_FILE_BYTES,
    NOTE_SUFFIXES,
    TEXT_SUFFIXES,
    is_hidden,
    is_recording,
    shown,
    suffix,
)
from hdapbench.errors import DataError

Progress = Callable[[str], None]

MAX_TEXT_BYTES = 1 << 30
"""Of all texts of an archive together."""

MAX_WAYS = 100
"""Links by which the same folder may be reached."""


@dataclass(frozen=True)
class Contents:
    """What lies in a folder or archive, as POSIX paths relative to it.

    Attributes
    ----------
    source
        The folder or archive.
    files
        Name -> size, time and number of a folder's file; the text is empty for links that lead nowhere and in archives.
    folders
        Names of the folders.
    """

    source: Path
    files: Mapping[str, str]
    folders: Collection[str] = field(default=())

    def fingerprint(self) -> str:
        """Hash of an archive, or of the names, sizes, times and numbers of a folder's images, recordings and texts."""
        if self.source.is_file():
            with self.source.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        digest = hashlib.sha256()
        for name in sorted(self.files):
            if suffix(name) in IMAGE_SUFFIXES | TEXT_SUFFIXES | {AUDIO_SUFFIX}:
                digest.update(os.fsencode(f"{name}|{self.files[name]}\n"))
        return digest.hexdigest()


def left_out(contents: Contents, used: Collection[str]) -> dict[str, int]:
    """Kinds of files that lie among the used ones and are no notes -> how many there are.

    Parameters
    ----------
    contents
        Of the whole folder or archive.
    used
        Names of the files that are read; what lies in their folders, or in the folders around these, is among them.
    """
    folders = {posixpath.dirname(name) for name in used}
    folders |= {posixpath.dirname(folder) for folder in folders}
    folders.discard("")
    return kinds_of(name for name in contents.files if posixpath.dirname(name) in folders and name not in used)


def kinds_of(names: Iterable[str]) -> dict[str, int]:
    """Kinds of files -> how many there are, without notes."""
    counted = [name for name in names if suffix(name) not in NOTE_SUFFIXES]
    return dict(Counter("hidden" if is_hidden(name) else suffix(name) for name in counted))


def list_contents(source: Path) -> Contents:
    """Contents of a folder or archive, links followed.

    Raises
    ------
    DataError
        When a folder cannot be listed, an archive is damaged, or a link leads nowhere that is no image or recording:
        a class may lie behind it. One that is is listed, and cannot be read.
    """
    if not source.is_dir():
        found = index(source)
        around = {parent for name in found.files for parent in _folders_around(name)}
        return Contents(source, dict.fromkeys(found.files, ""), found.folders | around)
    files: dict[str, str] = {}
    folders: list[str] = []
    for name, status in _walk(source):
        if status is None and not is_recording(name):
            raise DataError(f"'{source}': {shown(name)} is a link that leads nowhere; repair or remove it")
        if status is not None and stat.S_ISDIR(status.st_mode):
            folders.append(name)
        elif status is None or stat.S_ISREG(status.st_mode):
            files[name] = identity(status)
        else:
            raise DataError(f"'{source}': {shown(name)} is a pipe or a device, no file; remove it")
    return Contents(source, files, folders)


def identity(status: os.stat_result | None) -> str:
    """Size, time and number of a file as a text; empty for one that is not there."""
    return "" if status is None else f"{status.st_size}|{status.st_mtime_ns}|{status.st_ino}"


def read_each(source: Path, wanted: Collection[str]) -> Iterator[tuple[str, bytes | Exception]]:
    """Name and content of the wanted files, or why it cannot be read, in the order in which the source holds them.

    In a folder, absolute names are opened as they are.
    """
    if not source.is_dir():
        yield from read_members(source, wanted)
        return
    for name in wanted:
        try:
            with (source / name).open("rb") as stream:
                content = stream.read(MAX_FILE_BYTES + 1)
            yield (
                name,
                content if len(content) <= MAX_FILE_BYTES else ValueError(f"larger than {MAX_FILE_BYTES >> 20} MiB"),
            )
        except OSError as error:
            yield name, OSError(error.strerror or str(error))


def read_texts(source: Path) -> dict[str, bytes]:
    """Name -> content of every text file in an archive, in one pass.

    Raises
    ------
    DataError
        When the archive is damaged, or its texts are too many.
    """
    texts: dict[str, bytes] = {}
    n_bytes = 0
    for name, content in read_members(source, [name for name in index(source).files if suffix(name) in TEXT_SUFFIXES]):
        if isinstance(content, Exception) or n_bytes + len(content) > MAX_TEXT_BYTES:
            raise DataError(f"'{source}': the texts up to {shown(name)} are larger than labels can be")
        n_bytes += len(content)
        texts[name] = content
    return texts


def texts_of(contents: Contents, names: Collection[str]) -> dict[str, str]:
    """Name -> text of files that must be UTF-8.

    Raises
    ------
    DataError
        When one cannot be read, or is in another encoding.
    """
    texts = {}
    for name, content in read_each(contents.source, names):
        if isinstance(content, Exception):
            raise DataError(f"'{contents.source}': {shown(name)} cannot be read: {content}")
        texts[name] = decoded(content, f"{contents.source}/{shown(name)}")
    return texts


def decoded(content: bytes, origin: str) -> str:
    """Text of a file that must be UTF-8.

    Raises
    ------
    DataError
        When it is in another encoding.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"'{origin}' is not UTF-8 text (byte {error.start}); save it in that encoding") from None


def _folders_around(name: str) -> Iterator[str]:
    while name := posixpath.dirname(name):
        yield name


def _walk(source: Path) -> Iterator[tuple[str, os.stat_result | None]]:
    """Name and status of everything below a folder; no status for links that lead nowhere."""
    ways: Counter[tuple[int, int]] = Counter()
    pending: list[tuple[str, str, frozenset[tuple[int, int]]]] = [(str(source), "", frozenset())]
    while pending:
        path, prefix, above = pending.pop()
        try:
            here = os.stat(path)  # noqa: PTH116 - a million times
            key = (here.st_dev, here.st_ino)
            if key in above:
                continue  # a link to a folder around it: all behind it was seen
            ways[key] += 1
            if ways[key] > MAX_WAYS:
                raise DataError(f"'{source}': more than {MAX_WAYS} links lead to {shown(prefix)}; remove some")
            with os.scandir(path) as entries:
                for entry in entries:
                    status = _status(entry)
                    yield prefix + entry.name, status
                    if status is not None and stat.S_ISDIR(status.st_mode):
                        pending.append((entry.path, f"{prefix}{entry.name}/", above | {key}))
        except OSError as error:
            raise DataError(f"'{shown(path)}' cannot be listed: {error.strerror or error}") from error


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return None
        raise
