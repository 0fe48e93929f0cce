"""Detection sets in ultralytics' layout -> decoded, letterboxed parts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hdapbench.arrays import Integers
from hdapbench.data.box_labels import BOX_VALUES, label_path, parse_labels
from hdapbench.data.box_layout import BoxLayout, read_layout
from hdapbench.data.cache import DecodedPart, cache_key, write_part
from hdapbench.data.cached import cached_part
from hdapbench.data.decode import Letterbox, decode_letterboxed
from hdapbench.data.kinds import shown
from hdapbench.data.reading import Reading, decode_each
from hdapbench.data.source import identity, list_contents
from hdapbench.data.split import stratified_order
from hdapbench.errors import DataError

BOXES, STARTS = "boxes", "starts"

Labels = dict[str, NDArray[np.float32]]
"""Image -> its boxes, shape (k, 5)."""


def load_yolo(reading: Reading, *, cache_dir: Path) -> tuple[DecodedPart, DecodedPart]:
    """Decoded train and test parts of a detection set; extras ``boxes`` and ``starts`` hold their boxes.

    A part's labels are the rarest class in each image, by which the order is stratified.

    Parameters
    ----------
    reading
        Its source is a data yaml, a folder with one, or a tar archive with one.
    cache_dir
        Where decoded parts are kept.

    Raises
    ------
    DataError
        When the set is missing, laid out otherwise, or holds files that cannot be read: those are named.
    """
    layout = read_layout(reading.source)
    reading = Reading(layout.root, reading.input_shape, reading.corrupt, reading.on_progress)
    seen = (_identities(layout), layout.classes, layout.train, layout.test, layout.n_key_points)
    key = cache_key("boxes", *seen, reading.input_shape)

    def part(split: str, names: tuple[str, ...], layout: BoxLayout) -> DecodedPart:
        folder = cache_dir / "data" / f"{key}-{split}"
        return cached_part(
            folder, reading, lambda: list(names), lambda left, skipped: _decode(reading, layout, left, skipped, folder)
        )

    return part("train", layout.train, layout), part("test", layout.test, replace(layout, left_out={}))


def _decode(reading: Reading, layout: BoxLayout, names: list[str], skipped: dict[str, str], folder: Path) -> None:
    """Decode the named images and their labels into the cache."""
    texts = {name: layout.label_text(label_path(name)) for name in names}
    if all(text is None for text in texts.values()):
        raise DataError(
            f"'{layout.root}': no image of {len(names)} has a label file; the first was looked for in "
            f"'{label_path(names[0])}'"
        )
    labels, problems = _parsed(texts, len(layout.classes), layout.n_key_points)
    _refuse_lost_classes(layout, [labels[name] for name in names], skipped)
    rarest = _rarest_classes([labels[name] for name in names], len(layout.classes))
    order = stratified_order(rarest)
    positions = {names[index]: position for position, index in enumerate(order)}
    frames: dict[str, Letterbox] = {}

    def decode(name: str, content: bytes) -> NDArray[np.uint8]:
        if name in problems:
            raise ValueError(problems[name])
        pixels, frames[name] = decode_letterboxed(BytesIO(content), reading.input_shape)
        return pixels

    def extras() -> Mapping[str, NDArray[np.float32] | Integers]:
        placed = [_placed(labels[names[index]], frames[names[index]], reading.input_shape) for index in order]
        starts = np.cumsum([0, *(len(boxes) for boxes in placed)], dtype=np.int64)
        return {BOXES: np.concatenate([*placed, np.zeros((0, BOX_VALUES), np.float32)]), STARTS: starts}

    write_part(
        folder,
        rarest[order],
        decode_each(reading, positions, decode),
        image_shape=reading.input_shape,
        classes=layout.classes,
        skipped=skipped,
        left_out=layout.left_out,
        extras=extras,
    )


def _identities(layout: BoxLayout) -> str:
    """Hash of an archive, or of sizes, times and numbers of images and labels, wherever links lead."""
    if layout.root.is_file():
        return list_contents(layout.root).fingerprint()
    digest = hashlib.sha256()
    for name in (*layout.train, *layout.test):
        for path in (layout.root / name, layout.root / label_path(name)):
            digest.update(identity(path.stat() if path.is_file() else None).encode() + b"\n")
    return digest.hexdigest()


def _refuse_lost_classes(layout: BoxLayout, labels: list[NDArray[np.float32]], skipped: Mapping[str, str]) -> None:
    """Refuse to leave out all images that a class is on."""
    left = {int(label) for boxes in labels for label in boxes[:, 0]}
    for name, why in skipped.items():
        lines = (layout.label_text(label_path(name)) or "").splitlines()
        labelled = {int(line.split()[0]) for line in lines if line.split() and line.split()[0].isdecimal()}
        lost = sorted(labelled & set(range(len(layout.classes))) - left)
        if lost:
            raise DataError(
                f"'{layout.root}': no image of the class {shown(layout.classes[lost[0]])} can be read, such as "
                f"{shown(name)} ({why}); repair some, or remove all"
            )


def _parsed(texts: Mapping[str, str | None], n_classes: int, n_key_points: int) -> tuple[Labels, dict[str, str]]:
    """Boxes of every image, none where it has no label file, and what is wrong with the label files of some."""
    labels: Labels = {}
    problems: dict[str, str] = {}
    for name, text in texts.items():
        labels[name] = np.zeros((0, BOX_VALUES), np.float32)
        try:
            labels[name] = parse_labels(text or "", n_classes, n_key_points)
        except ValueError as error:
            problems[name] = str(error)
    return labels, problems


def _rarest_classes(labels: list[NDArray[np.float32]], n_classes: int) -> Integers:
    """For each image, its class of which there are fewest boxes in all; ``n_classes`` for images without boxes."""
    counts = Counter(int(label) for boxes in labels for label in boxes[:, 0])
    return np.array(
        [
            min((int(label) for label in boxes[:, 0]), key=lambda c: (counts[c], c), default=n_classes)
            for boxes in labels
        ],
        dtype=np.int64,
    )


def _placed(boxes: NDArray[np.float32], frame: Letterbox, input_shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Boxes as shares of the letterboxed image."""
    inside = frame.placed(boxes[:, 1:], input_shape[1:])
    return np.concatenate([boxes[:, :1], inside], axis=1).astype(np.float32)
