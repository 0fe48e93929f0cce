"""Images in folders named by class: ``root/{train,test}/<class>/*.jpg``, unpacked or in a tar archive."""

from __future__ import annotations

import hashlib
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from numpy.typing import NDArray

from hdapbench.data.cache import Part, cache_key, read_part, write_part
from hdapbench.data.decode import decode_image
from hdapbench.data.split import stratified_order
from hdapbench.errors import DataError

Progress = Callable[[str], None]

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp"})
TRAIN, TEST, VAL = "train", "test", "val"
LAYOUT = "expected train/<class>/*.jpg and test/<class>/*.jpg (or val/)"
REPORT_EVERY = 5000
SHOWN_NAMES = 5


def load_folder(
    source: Path, input_shape: tuple[int, int, int], *, cache_dir: Path, on_progress: Progress | None = None
) -> tuple[Part, Part]:
    """Decoded train and test parts of a folder or tar archive of images, each in stratified order.

    Parameters
    ----------
    source
        A folder, or a tar archive, read in place; a single folder around the splits is looked into.
    input_shape
        Channels, height and width to decode to.
    cache_dir
        Where decoded parts are kept: by names, sizes and times of a folder's files, or by the hash of an archive.
    on_progress
        Called with a line of text now and then while images are decoded.

    Raises
    ------
    DataError
        When the source is missing, is laid out otherwise, or holds files that are no images: those are named.
    """
    if not source.exists():
        raise DataError(f"there is no '{source}'; {LAYOUT}, as a folder or a tar archive")
    key = cache_key(_fingerprint(source), input_shape)
    folders = {split: cache_dir / "data" / f"{key}-{split}" for split in (TRAIN, TEST)}
    parts = {split: read_part(folder) for split, folder in folders.items()}
    if None in parts.values():
        files = _files_by_split(_names(source), source)
        for split, folder in folders.items():
            if parts[split] is None:
                _decode(source, files[split], folder, input_shape=input_shape, on_progress=on_progress)
                parts[split] = read_part(folder)
    train, test = parts[TRAIN], parts[TEST]
    if train is None or test is None:
        raise DataError(f"the cache '{cache_dir}' lost what was just written to it; is something deleting files there?")
    return train, test


def _decode(
    source: Path,
    files: Mapping[str, str],
    folder: Path,
    *,
    input_shape: tuple[int, int, int],
    on_progress: Progress | None,
) -> None:
    """Decode the images of one split, given as name -> class, into the cache."""
    names = sorted(files)
    classes = sorted(set(files.values()))
    labels = np.array([classes.index(files[name]) for name in names], dtype=np.int64)
    order = stratified_order(labels)
    positions = {names[index]: position for position, index in enumerate(order)}
    broken: list[str] = []

    def pixels() -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for done, (name, stream) in enumerate(_open_each(source, positions)):
            try:
                yield positions[name], decode_image(stream, input_shape)
            except Exception as error:  # noqa: BLE001 - decoders raise whatever the bytes make them raise
                broken.append(f"{name} ({' '.join(str(error).split())[:80]})")
            if on_progress is not None and done % REPORT_EVERY == 0:
                on_progress(f"decoding {source.name}: {done:,} of {len(positions):,} images")
        if broken:
            more = f" and {len(broken) - SHOWN_NAMES} more" if len(broken) > SHOWN_NAMES else ""
            raise DataError(f"'{source}': cannot decode {', '.join(broken[:SHOWN_NAMES])}{more}; repair or remove them")

    write_part(folder, labels[order], pixels(), image_shape=input_shape, classes=classes)


def _files_by_split(names: list[str], source: Path) -> dict[str, dict[str, str]]:
    """Split -> file name -> class, with the folder around the splits looked through."""
    paths = [PurePosixPath(name) for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES]
    depth = 0 if any(path.parts[0] == TRAIN for path in paths) else 1
    found: dict[str, dict[str, str]] = {TRAIN: {}, TEST: {}, VAL: {}}
    for path in paths:
        split, *below = path.parts[depth:]
        if split in found and len(below) > 1:
            found[split][str(path)] = below[0]
    if not found[TEST]:
        found[TEST] = found[VAL]
    for split in (TRAIN, TEST):
        if not found[split]:
            raise DataError(f"'{source}' holds no images under {split}/; {LAYOUT}")
    train_classes, test_classes = (set(found[split].values()) for split in (TRAIN, TEST))
    if train_classes != test_classes:
        differing = sorted(train_classes ^ test_classes)
        shown = ", ".join(differing[:SHOWN_NAMES])
        raise DataError(f"'{source}': train and test must hold the same classes; only in one of them: {shown}")
    return found


def _names(source: Path) -> list[str]:
    """Files in the source, as POSIX paths relative to it."""
    if source.is_dir():
        return [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
    return [name for name, _ in _archive_files(source)]


def _open_each(source: Path, wanted: Mapping[str, int]) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of the wanted files, in the order in which the source holds them."""
    if source.is_dir():
        for name in wanted:
            with (source / name).open("rb") as stream:
                yield name, stream
        return
    for name, read in _archive_files(source):
        content = read() if name in wanted else None
        if content is not None:
            yield name, content


def _archive_files(source: Path) -> Iterator[tuple[str, Callable[[], IO[bytes] | None]]]:
    """Name and reader of every file of an archive, in one pass: to go back is slow in compressed archives."""
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                if member.isfile():
                    yield PurePosixPath(member.name).as_posix(), partial(archive.extractfile, member)
    except (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"'{source}' is neither a folder nor a whole tar archive: {error}") from error


def _fingerprint(source: Path) -> str:
    """Hash of an archive, or of the names, sizes and times of a folder's files."""
    if source.is_file():
        with source.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    digest = hashlib.sha256()
    for path in sorted(source.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            status = path.stat()
            digest.update(f"{path.relative_to(source).as_posix()}|{status.st_size}|{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
