"""Images in folders named by class: ``root/{train,test}/<class>/*.jpg``, unpacked or in a tar archive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray

from hdapbench.data.cache import Layout, Part, cache_key, write_part
from hdapbench.data.decode import decode_image
from hdapbench.data.live import FileImages, Listing, read_listing, write_listing
from hdapbench.data.reading import SHOWN_NAMES, Reading, cached_part, decode_each
from hdapbench.data.source import file_names, fingerprint, is_image
from hdapbench.data.split import stratified_order
from hdapbench.errors import DataError

TRAIN, TEST, VAL = "train", "test", "val"
LAYOUT = "expected train/<class>/*.jpg and test/<class>/*.jpg (or val/)"

Files = dict[str, dict[str, str]]
"""Split -> file name -> class."""


def load_folder(
    reading: Reading, *, cache_dir: Path, layout: Callable[[Path], Files] | None = None, advice: str = LAYOUT
) -> tuple[Part, Part]:
    """Decoded train and test parts of a folder or tar archive of images, each in stratified order.

    Parameters
    ----------
    reading
        Where the images are and what they are decoded to; a single folder around the splits is looked into.
    cache_dir
        Where decoded parts are kept: by names, sizes and times of a folder's files, or by the hash of an archive.
    layout
        Finds the files of both splits; by default those of class folders.
    advice
        Says where to get the set and how to lay it out, in the error when it is missing.

    Raises
    ------
    DataError
        When the source is missing, is laid out otherwise, or holds files that are no images: those are named.
    """
    source = reading.source
    if not source.exists():
        raise DataError(f"there is no '{source}'; {advice}, as a folder or a tar archive")
    key = cache_key(fingerprint(source), reading.input_shape)
    files: Files = {}

    def listed(split: str) -> dict[str, str]:
        files.update(files or checked_files((layout or class_folders)(source), source, advice))
        return files[split]

    def part(split: str) -> Part:
        folder = cache_dir / "data" / f"{key}-{split}"
        listing = folder.with_suffix(".json")
        known_live = reading.decode == "auto" and listing.is_file()
        if known_live or (not folder.is_dir() and reading.is_live(len(listed(split)))) or reading.decode == "live":
            return _live_part(reading, listing, lambda: listed(split))
        return cached_part(
            folder,
            reading,
            lambda: sorted(listed(split)),
            lambda names, skipped: _decode(reading, listed(split), names, skipped, folder),
        )

    return part(TRAIN), part(TEST)


def class_folders(source: Path) -> Files:
    """Files of ``train/<class>/`` and ``test/<class>/`` or ``val/<class>/``, the folder around them looked through."""
    paths = [PurePosixPath(name) for name in file_names(source) if is_image(name)]
    depth = 0 if any(path.parts[0] == TRAIN for path in paths) else 1
    found: Files = {TRAIN: {}, TEST: {}, VAL: {}}
    for path in paths:
        split, *below = path.parts[depth:]
        if split in found and len(below) > 1:
            found[split][str(path)] = below[0]
    if not found[TEST]:
        found[TEST] = found[VAL]
    return found


def checked_files(found: Files, source: Path, advice: str) -> Files:
    """Files of both splits, of the same classes.

    Raises
    ------
    DataError
        When a split is empty or lacks a class of the other.
    """
    for split in (TRAIN, TEST):
        if not found[split]:
            raise DataError(f"'{source}' holds no images under {split}/; {advice}")
    train_classes, test_classes = (set(found[split].values()) for split in (TRAIN, TEST))
    if train_classes != test_classes:
        differing = sorted(train_classes ^ test_classes)
        shown = ", ".join(differing[:SHOWN_NAMES])
        raise DataError(f"'{source}': train and test must hold the same classes; only in one of them: {shown}")
    return found


def _live_part(reading: Reading, path: Path, files: Callable[[], Mapping[str, str]]) -> Part:
    """Part whose images stay in their files; these are checked and hashed once."""
    reading.is_live(0)  # an archive is refused before it is read

    def write(names: list[str], skipped: dict[str, str]) -> None:
        labels, order = _labels(files(), names)
        listing = Listing(
            [names[index] for index in order], labels[order].tolist(), sorted(set(files().values())), skipped=skipped
        )
        write_listing(path, reading, listing)

    def read() -> Part | None:
        found = read_listing(path)
        if found is None:
            return None
        images = FileImages(reading.source, found.names, reading.input_shape)
        layout = Layout(found.labels, found.classes, list(images.shape), found.digest, found.skipped)
        return Part(images, torch.tensor(found.labels, dtype=torch.int64), layout)

    return cached_part(path, reading, lambda: sorted(files()), write, read=read)


def _labels(files: Mapping[str, str], names: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Class numbers of the named files, and their stratified order."""
    numbers = {name: number for number, name in enumerate(sorted(set(files.values())))}
    labels = np.array([numbers[files[name]] for name in names], dtype=np.int64)
    return labels, stratified_order(labels)


def _decode(
    reading: Reading, files: Mapping[str, str], names: list[str], skipped: dict[str, str], folder: Path
) -> None:
    """Decode the named images of one split, given as name -> class, into the cache."""
    labels, order = _labels(files, names)
    positions = {names[index]: position for position, index in enumerate(order)}

    def decode(_name: str, content: bytes) -> NDArray[np.uint8]:
        return decode_image(BytesIO(content), reading.input_shape)

    write_part(
        folder,
        labels[order],
        decode_each(reading, positions, decode),
        image_shape=reading.input_shape,
        classes=sorted(set(files.values())),
        skipped=skipped,
    )
