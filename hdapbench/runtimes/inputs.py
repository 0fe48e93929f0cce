"""Inputs that models are timed on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

SEED = 0


def random_pixels(shape: Sequence[int]) -> Pixels:
    """8-bit images, shape (n, height, width, channels) for inputs of ``shape`` (n, channels, height, width)."""
    n, channels, height, width = shape
    return np.random.default_rng(SEED).integers(0, 256, (n, height, width, channels), dtype=np.uint8)


def random_input(shape: Sequence[int]) -> Floats:
    """The same images as a network takes them, shape ``shape``: values do not bear on the time, zeros might."""
    return to_input(random_pixels(shape))


def to_input(pixels: Pixels) -> Floats:
    """Images, shape (n, channels, height, width), scaled to [-1, 1]: the first step of the boundary ``end_to_end``."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(127.5) - np.float32(1.0)


def largest(outputs: Any) -> NDArray[np.int64]:
    """Index of the largest output of each input, shape (n,): the last step of the boundary ``end_to_end``."""
    return np.asarray(outputs.reshape(len(outputs), -1).argmax(axis=1))
