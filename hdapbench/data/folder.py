"""Images in folders named by class: ``root/{train,test}/<class>/*.jpg``, unpacked or in a tar archive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray

from hdapbench.arrays import Integers
from hdapbench.data.cache import DecodedPart, Layout, cache_key, write_part
from hdapbench.data.cached import cached_part
from hdapbench.data.decode import decode_image
from hdapbench.data.kinds import is_hidden, is_image, shown
from hdapbench.data.live import FileImages, Listing, read_listing, write_listing
from hdapbench.data.reading import SHOWN_NAMES, Reading, decode_each
from hdapbench.data.source import Contents, left_out, list_contents
from hdapbench.data.split import stratified_order
from hdapbench.errors import DataError
from hdapbench.spec.data import ADVICE

TRAIN, TEST, VAL = "train", "test", "val"

Files = dict[str, dict[str, str]]
"""Split -> file name -> class."""


@dataclass(frozen=True)
class FolderFormat:
    """How files of classes are laid out and what they are.

    Attributes
    ----------
    files
        Finds the files of both splits in a folder or archive.
    advice
        Says where to get the set and how to lay it out, in the error when it is missing.
    all_tested
        Whether every class must have test files. A published set is what it is; of a user's folders a class in one
        split alone is a slip.
    decode
        Pixels of a file, of the wanted shape.
    version
        Part of the cache's key, where ``decode`` is not that of images.
    """

    files: Callable[[Contents], Files]
    advice: str
    all_tested: bool = False
    decode: Callable[[IO[bytes], tuple[int, int, int]], NDArray[np.uint8]] = decode_image
    version: tuple[object, ...] = ()


def load_folder(reading: Reading, *, cache_dir: Path, form: FolderFormat) -> tuple[DecodedPart, DecodedPart]:
    """Decoded train and test parts of a folder or tar archive of images, each in stratified order.

    Parameters
    ----------
    reading
        Where the images are and what they are decoded to; a single folder around the splits is looked into.
    cache_dir
        Where decoded parts are kept: by names, sizes and times of a folder's files, or by the hash of an archive.
    form
        What the files are.

    Raises
    ------
    DataError
        When the source is missing, is laid out otherwise, or holds files that are no images: those are named.
    """
    source = reading.source
    _refuse_absent(source, form)
    if form.decode is not decode_image and reading.decode == "live":
        raise DataError("data.decode: live is for images; write once or auto")
    contents = list_contents(source)
    key = cache_key(contents.fingerprint(), reading.input_shape, *form.version)
    files: Files = {}

    def listed(split: str) -> dict[str, str]:
        if not files:
            files.update(checked_files(form.files(contents), source, form))
        return files[split]

    def beside(split: str) -> dict[str, int]:
        used = listed(TRAIN) | listed(TEST)
        return left_out(contents, used) if split == TRAIN else {}

    def classes() -> list[str]:
        return sorted(set(listed(TRAIN).values()))

    def write(split: str, names: list[str], skipped: dict[str, str], folder: Path) -> None:
        labels = _labels(listed(split), classes(), names, skipped)
        positions = {names[index]: position for position, index in enumerate(labels.order)}
        write_part(
            folder,
            labels.numbers[labels.order],
            decode_each(reading, positions, lambda _, content: form.decode(BytesIO(content), reading.input_shape)),
            image_shape=reading.input_shape,
            classes=labels.classes,
            skipped=skipped,
            left_out=beside(split),
        )

    def part(split: str) -> DecodedPart:
        folder = cache_dir / "data" / f"{key}-{split}"
        listing = folder.with_suffix(".json")
        known_live = reading.decode == "auto" and listing.is_file()
        if known_live or (not folder.is_dir() and reading.is_live(len(listed(split)))) or reading.decode == "live":
            return _live_part(reading, listing, lambda: listed(split), classes, lambda: beside(split))
        return cached_part(
            folder,
            reading,
            lambda: sorted(listed(split)),
            lambda names, skipped: write(split, names, skipped, folder),
        )

    return part(TRAIN), part(TEST)


def count_listed_classes(form: FolderFormat, source: Path) -> int:
    """Classes of a set whose layout is looked at without decoding an image.

    Raises
    ------
    DataError
        When the source is missing or is laid out otherwise.
    """
    _refuse_absent(source, form)
    contents = list_contents(source)
    return len(set(checked_files(form.files(contents), source, form)[TRAIN].values()))


def _refuse_absent(source: Path, form: FolderFormat) -> None:
    if not source.exists():
        raise DataError(f"there is no '{source}'; {form.advice}, as a folder or a tar archive")


def class_folders(contents: Contents) -> Files:
    """Files of ``train/<class>/`` and ``test/<class>/`` or ``val/<class>/``, the folder around them looked through.

    Raises
    ------
    DataError
        When a class folder holds no images, which would drop the class without a word.
    """
    paths = [PurePosixPath(name) for name in contents.files if is_image(name)]
    depth = split_depth(paths)
    found: Files = {TRAIN: {}, TEST: {}, VAL: {}}
    for path in paths:
        split, *below = path.parts[depth:] or ("",)
        if split in found and len(below) > 1:
            found[split][str(path)] = below[0]
    if not found[TEST]:
        found[TEST] = found[VAL]
    classes = set(found[TRAIN].values())
    folders = {name: PurePosixPath(name).parts[depth:] for name in contents.folders if not is_hidden(name)}
    empty = [name for name, parts in folders.items() if parts[:-1] == (TRAIN,) and parts[-1] not in classes]
    if classes:
        _refuse_empty(contents.source, empty)
    return found


def _refuse_empty(source: Path, folders: Sequence[str]) -> None:
    """Refuse class folders without images, which would drop their classes without a word.

    Raises
    ------
    DataError
        When there are some.
    """
    if folders:
        listed = ", ".join(map(shown, sorted(folders)[:SHOWN_NAMES]))
        raise DataError(f"'{source}': no images in the class folder {listed}; fill it or remove it")


def split_depth(paths: Iterable[PurePosixPath]) -> int:
    """Folders around the splits: none, or one."""
    return 0 if any(path.parts[0] == TRAIN for path in paths) else 1


def checked_files(found: Files, source: Path, form: FolderFormat) -> Files:
    """Files of both splits, of the same classes.

    Raises
    ------
    DataError
        When a split is empty or lacks a class that it should have: those of test files must always be trained.
    """
    for split in (TRAIN, TEST):
        if not found[split]:
            raise DataError(f"'{source}' holds no images under {split}/; {form.advice}")
    train_classes, test_classes = (set(found[split].values()) for split in (TRAIN, TEST))
    differing = sorted(train_classes ^ test_classes if form.all_tested else test_classes - train_classes)
    if differing:
        shown = ", ".join(differing[:SHOWN_NAMES])
        raise DataError(f"'{source}': train and test must hold the same classes; only in one of them: {shown}")
    return found


def _live_part(
    reading: Reading,
    path: Path,
    files: Callable[[], Mapping[str, str]],
    classes: Callable[[], list[str]],
    beside: Callable[[], dict[str, int]],
) -> DecodedPart:
    """Part whose images stay in their files; these are checked and hashed once."""
    reading.is_live(0)  # an archive is refused before it is read

    def write(names: list[str], skipped: dict[str, str]) -> None:
        found = _labels(files(), classes(), names, skipped)
        order = found.order
        listing = Listing(
            [names[index] for index in order],
            found.numbers[order].tolist(),
            found.classes,
            skipped=skipped,
            left_out=beside(),
        )
        write_listing(path, reading, listing)

    def read() -> DecodedPart | None:
        found = read_listing(path)
        if found is None:
            return None
        images = FileImages(reading.source, found.names, reading.input_shape)
        layout = Layout(
            found.labels,
            found.classes,
            list(images.shape),
            found.digest,
            skipped=found.skipped,
            left_out=found.left_out,
        )
        return DecodedPart(images, torch.tensor(found.labels, dtype=torch.int64), layout)

    return cached_part(path, reading, lambda: sorted(files()), write, read=read)


@dataclass(frozen=True)
class _Labels:
    """Class numbers of files, shape (n,), the stratified order of the files, and the names of the classes."""

    numbers: Integers
    order: Integers
    classes: list[str]


def _labels(files: Mapping[str, str], classes: list[str], names: list[str], skipped: Mapping[str, str]) -> _Labels:
    """Labels of the named files of one split, given as name -> class.

    Raises
    ------
    DataError
        When all files of a class are among those that are skipped.
    """
    lost = sorted(set(files.values()) - {files[name] for name in names})
    if lost:
        some = next(f"{shown(name)} ({why})" for name, why in skipped.items() if files[name] == lost[0])
        raise DataError(
            f"no file of the class {shown(lost[0])} can be read, such as {some}; repair some, or remove all"
        )
    known = {name: number for number, name in enumerate(classes)}
    numbers = np.array([known[files[name]] for name in names], dtype=np.int64)
    return _Labels(numbers, stratified_order(numbers), classes)


CLASS_FOLDERS = FolderFormat(class_folders, ADVICE["imagefolder"], all_tested=True)
"""Images in folders named by class."""
