"""Labels of detection sets: one text file per image, one line per object."""

from __future__ import annotations

from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

BOX_VALUES = 5
"""Class, centre x and y, width, height: shares of the image."""

LEAST_POLYGON = 7
"""Class and three points."""

SLACK = 0.01
"""By how much coordinates may leave [0, 1]: annotation tools round."""


def label_path(image: str) -> str:
    """Label file of an image: ``labels`` for the last folder named ``images``, ``.txt`` for its suffix."""
    path = PurePosixPath(image)
    parts = list(path.parts)
    for number in range(len(parts) - 2, -1, -1):
        if parts[number] == "images":
            parts[number] = "labels"
            break
    return str(PurePosixPath(*parts).with_suffix(".txt"))


def parse_labels(text: str, n_classes: int, n_key_points: int = 0) -> NDArray[np.float32]:
    """Class, centre x and y, width and height of every object, shape (k, 5); lines that repeat count once.

    A line is a box, or a polygon (class and at least three points), of which the box around it is taken. In a set with
    key points it is a box and so many values of its key points, which detection has no use for.

    Raises
    ------
    ValueError
        With the first line that is neither.
    """
    boxes: dict[tuple[float, ...], None] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            values = [float(field) for field in fields]
        except ValueError:
            raise ValueError(f"line {number} of its label file is not made of numbers") from None
        if n_key_points and len(values) != BOX_VALUES + n_key_points:
            wanted = BOX_VALUES + n_key_points
            raise ValueError(f"line {number} of its label file has {len(values)} values, kpt_shape asks for {wanted}")
        boxes[_box(values[:BOX_VALUES] if n_key_points else values, number, n_classes)] = None
    return np.array(list(boxes), dtype=np.float32).reshape(-1, BOX_VALUES)


def _box(values: list[float], number: int, n_classes: int) -> tuple[float, ...]:
    """Box of one line's values."""
    label, coordinates = values[0], np.array(values[1:])
    if not np.isfinite(values).all():
        raise ValueError(f"line {number} of its label file is not made of finite numbers")
    if label != int(label) or not 0 <= label < n_classes:
        raise ValueError(f"line {number} of its label file names class {label:g}, there are {n_classes}")
    is_polygon = len(values) >= LEAST_POLYGON and len(values) % 2 == 1
    if len(values) != BOX_VALUES and not is_polygon:
        raise ValueError(f"line {number} of its label file has {len(values)} values, a box has {BOX_VALUES}")
    if coordinates.min() < -SLACK or coordinates.max() > 1 + SLACK:
        raise ValueError(f"line {number} of its label file leaves the image: coordinates are shares of it")
    if is_polygon:
        low, high = coordinates.reshape(-1, 2).min(0), coordinates.reshape(-1, 2).max(0)
        coordinates = np.concatenate([(low + high) / 2, high - low])
    # In single precision, as they are stored: lines that differ by less are the same box.
    return (label, *(float(np.float32(value)) for value in coordinates))
