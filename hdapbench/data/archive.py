"""Tar archives that are read in place: links resolved, damage named, and nothing expanded beyond reason."""

from __future__ import annotations

import lzma
import posixpath
import tarfile
import zipfile
import zlib
from bisect import bisect_left
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from hdapbench.data.kinds import MAX_FILE_BYTES, is_recording, shown
from hdapbench.errors import DataError

MAX_FILES = 3_000_000
MAX_NAME_BYTES = 1 << 28
"""Of all names together."""

MAX_HEADER_BYTES = 1 << 20
LONG_HEADERS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
"""Members that describe the one after them; tarfile reads them whole."""

MAX_EXPANSION, FREE_BYTES = 200, 1 << 30
"""An archive of more than `FREE_BYTES` unpacked may be so many times its size: images hardly compress, bombs do."""

MAX_ROUNDS = 8
"""Links to folders that lead through further links to folders."""

NOTHING = -1
"""Instead of a member's number: a link that leads to nothing in the archive."""


@dataclass(frozen=True)
class Index:
    """What an archive holds, links followed.

    Attributes
    ----------
    files
        Name -> number of the member that holds its content, or `NOTHING`.
    folders
        Names of the folders that the archive lists.
    """

    files: dict[str, int]
    folders: frozenset[str]


class _Member(tarfile.TarInfo):
    """Header of a member. tarfile takes a damaged one for the end of the archive, and holds any long name in memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        """Header of one block.

        Raises
        ------
        ValueError
            When it is damaged, or announces something impossible.
        """
        try:
            found = super().frombuf(buf, encoding, errors)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise ValueError(f"a damaged header: {error}") from None
        if found.size < 0 or (found.type in LONG_HEADERS and found.size > MAX_HEADER_BYTES):
            raise ValueError(f"a header of {found.size:,} bytes")
        return found


def index(path: Path) -> Index:
    """Index of an archive; the last one read is kept.

    Raises
    ------
    DataError
        When it is no whole tar archive, is larger than any data set, or has links that lead nowhere or in circles.
    """
    status = path.stat()
    return _indexed(path, status.st_size, status.st_mtime_ns, status.st_ino)


def read_members(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, bytes | Exception]]:
    """Name and content of the wanted files, or why there is none, in the order in which the archive holds them.

    Raises
    ------
    DataError
        When the archive is damaged.
    """
    files = index(path).files
    holders: dict[int, list[str]] = {}
    for name in wanted:
        holders.setdefault(files.get(name, NOTHING), []).append(name)
    for name in holders.pop(NOTHING, []):
        yield name, FileNotFoundError("a link to nothing in the archive")
    for number, (archive, member) in enumerate(_members(path)):
        names = holders.pop(number, [])
        if not names:
            continue
        stream = archive.extractfile(member) if member.size <= MAX_FILE_BYTES else None
        content = stream.read() if stream is not None else ValueError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
        for name in names:
            yield name, content


@lru_cache(maxsize=1)
def _indexed(path: Path, *_identity: int) -> Index:
    files: dict[str, int] = {}
    links: dict[str, str] = {}
    folders: set[str] = set()
    n_bytes = 0
    for number, (_, member) in enumerate(_members(path)):
        name = PurePosixPath(member.name).as_posix()
        n_bytes += len(name) + len(member.linkname)
        if number > MAX_FILES or n_bytes > MAX_NAME_BYTES:
            raise DataError(f"'{path}' holds more than {MAX_FILES:,} files, or names beyond reason; unpack it")
        files.pop(name, None)  # as when it is unpacked, the last member of a name counts
        links.pop(name, None)
        if member.isfile():
            files[name] = number
        elif member.isdir():
            folders.add(name)
        elif member.islnk():
            links[name] = posixpath.normpath(member.linkname)
        elif member.issym():
            links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
    _follow(path, files, links)
    return Index(files, frozenset(folders))


def _follow(path: Path, files: dict[str, int], links: dict[str, str]) -> None:
    """Add the names behind links to the files of an archive."""
    if not links:
        return
    for _ in range(MAX_ROUNDS):
        found = _behind(links, files)
        if found.keys() <= files.keys():
            break
        files.update(found)
        if len(files) > MAX_FILES:
            raise DataError(f"'{path}' holds more than {MAX_FILES:,} files behind links; unpack it")
    else:
        raise DataError(f"'{path}' holds links that run in circles; pack it with tar --dereference")
    order = sorted(files)
    for link, target in links.items():
        if link in files or _is_circle(link, target) or next(_below(order, target), None) is not None:
            continue
        if not is_recording(link):
            raise DataError(
                f"'{path}': {shown(link)} is a link to '{shown(target)}', which is not in the archive; "
                "pack it with tar --dereference"
            )
        files[link] = NOTHING


def _behind(links: dict[str, str], files: dict[str, int]) -> dict[str, int]:
    """Names that one step along the links gives files, and the members that hold them."""
    order = sorted(files)
    found: dict[str, int] = {}
    for link, target in links.items():
        if target in files:
            found[link] = files[target]
        elif not _is_circle(link, target):
            found |= {link + name[len(target) :]: files[name] for name in _below(order, target)}
    return found


def _is_circle(link: str, target: str) -> bool:
    return target == "." or f"{link}/".startswith(f"{target}/")


def _below(order: list[str], folder: str) -> Iterator[str]:
    """Names under a folder, of names in order."""
    for position in range(bisect_left(order, f"{folder}/"), len(order)):
        if not order[position].startswith(f"{folder}/"):
            return
        yield order[position]


def _members(path: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Every member of an archive, in one pass: to go back is slow in compressed archives."""
    allowed = max(FREE_BYTES, MAX_EXPANSION * path.stat().st_size)
    try:
        with tarfile.open(path, tarinfo=_Member) as archive:
            before = -1
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined] # it would keep every one
                if not before < archive.offset <= allowed:
                    raise ValueError(f"it expands to more than {allowed >> 20:,} MiB, or backwards")
                before = archive.offset
                yield archive, member
    except (tarfile.TarError, EOFError, OSError, ValueError, lzma.LZMAError, zlib.error) as error:
        told = shown(" ".join(str(error).split())[:200])
        if zipfile.is_zipfile(path):
            told = "it is a zip archive; unpack it"
        raise DataError(f"'{path}' is neither a folder nor a whole tar archive: {told}") from error
