"""Files of a data set, in a folder or in a tar archive that is read in place."""

from __future__ import annotations

import hashlib
import lzma
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from hdapbench.errors import DataError

Progress = Callable[[str], None]

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp"})
AUDIO_SUFFIX = ".wav"
TEXT_SUFFIXES = frozenset({".txt", ".yaml", ".yml"})


def is_image(name: str) -> bool:
    """Whether a file's name ends like an image's."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def file_names(source: Path) -> list[str]:
    """Files in a folder or archive, as POSIX paths relative to it."""
    if source.is_dir():
        return [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
    return [name for name, _ in _archive_files(source)]


def open_each(source: Path, wanted: Collection[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of the wanted files, in the order in which the source holds them.

    In a folder, absolute names are opened as they are.
    """
    if source.is_dir():
        for name in wanted:
            with (source / name).open("rb") as stream:
                yield name, stream
        return
    for name, read in _archive_files(source):
        content = read() if name in wanted else None
        if content is not None:
            yield name, content


def read_texts(source: Path) -> dict[str, str]:
    """Name -> text of every text file in an archive, in one pass; undecodable bytes are replaced."""
    texts = {}
    for name, read in _archive_files(source):
        content = read() if PurePosixPath(name).suffix.lower() in TEXT_SUFFIXES else None
        if content is not None:
            texts[name] = content.read().decode("utf-8", errors="replace")
    return texts


def fingerprint(source: Path) -> str:
    """Hash of an archive, or of the names, sizes and times of a folder's images, recordings and texts."""
    if source.is_file():
        with source.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    digest = hashlib.sha256()
    for path in sorted(source.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES | TEXT_SUFFIXES | {AUDIO_SUFFIX}:
            status = path.stat()
            digest.update(f"{path.relative_to(source).as_posix()}|{status.st_size}|{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _archive_files(source: Path) -> Iterator[tuple[str, Callable[[], IO[bytes] | None]]]:
    """Name and reader of every file of an archive, in one pass: to go back is slow in compressed archives."""
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                if member.isfile():
                    yield PurePosixPath(member.name).as_posix(), partial(archive.extractfile, member)
    except (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"'{source}' is neither a folder nor a whole tar archive: {error}") from error
