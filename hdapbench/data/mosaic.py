"""Augmentation for detection: four images around one point, scaled, shifted and recoloured (Bochkovskiy et al. 2020).

The ranges are those that YOLOv8 is usually trained with: objects at half to one and a half times their size, shifts of
a tenth of the image, saturation and brightness by up to 70 % and 40 %; no rotation. numpy and Pillow do the work: the
many small operations took a hundred times as long in torch with two threads on a busy machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hdapbench.data.decode import LETTERBOX_GREY, LUMINANCE

SCALE = 0.5
SHIFT = 0.1
SATURATION = 0.7
BRIGHTNESS = 0.4
LEAST_SIDE = 2.0
LEAST_SHARE = 0.1
"""Boxes of fewer pixels per side are dropped, and those of which less than this share is left."""

Pixels = NDArray[np.uint8]
Boxes = NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """An image and its boxes.

    Attributes
    ----------
    image : ndarray, uint8, shape (channels, height, width)
    boxes : ndarray, float32, shape (k, 5)
        Class, centre x and y, width and height as shares of the image.
    """

    image: Pixels
    boxes: Boxes


def composed(scenes: Sequence[Scene], rng: np.random.Generator, *, flip: bool) -> Scene:
    """Scene of the first one's shape, composed of four.

    Parameters
    ----------
    scenes
        Four scenes of one shape.
    flip
        Whether half of the results are mirrored from left to right.
    """
    channels, height, width = scenes[0].image.shape
    canvas = np.full((channels, 2 * height, 2 * width), LETTERBOX_GREY, dtype=np.uint8)
    middle = (int(rng.uniform(0.5, 1.5) * height), int(rng.uniform(0.5, 1.5) * width))
    placed = []
    for number, scene in enumerate(scenes):
        corner = (middle[0] - height * (number < 2), middle[1] - width * (number % 2 == 0))
        _paste(canvas, scene.image, corner)
        placed.append(_corners(scene.boxes, corner, (height, width)))
    scale = rng.uniform(1 - SCALE, 1 + SCALE)
    shift = rng.uniform(-SHIFT, SHIFT, 2) * (height, width)
    extent = (round(height / scale), round(width / scale))
    corner = (round(height - extent[0] / 2 + shift[0]), round(width - extent[1] / 2 + shift[1]))
    view = np.full((channels, *extent), LETTERBOX_GREY, dtype=np.uint8)
    _paste(view, canvas, (-corner[0], -corner[1]))
    image = _resized(view, (height, width))
    boxes = _seen(np.concatenate(placed), (2 * height, 2 * width), corner, extent, (height, width))
    if flip and rng.random() < 0.5:
        image = image[:, :, ::-1]
        boxes[:, [1, 3]] = width - boxes[:, [3, 1]]
    return Scene(_recoloured(image, rng), _centred(boxes, (height, width)))


def _paste(canvas: Pixels, image: Pixels, corner: tuple[int, int]) -> None:
    """Copy what of an image lies on the canvas when its top left corner is put there."""
    top, left = corner
    height, width = image.shape[1:]
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + height, canvas.shape[1]), min(left + width, canvas.shape[2])
    canvas[:, y0:y1, x0:x1] = image[:, y0 - top : y1 - top, x0 - left : x1 - left]


def _resized(image: Pixels, size: tuple[int, int]) -> Pixels:
    from PIL import Image

    planes = [Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR) for plane in image]
    return np.stack([np.asarray(plane) for plane in planes])


def _corners(boxes: Boxes, corner: tuple[int, int], size: tuple[int, int]) -> Boxes:
    """Class, left, top, right, bottom in pixels, shape (k, 5), of an image at a corner."""
    height, width = size
    centres = boxes[:, 1:3] * _row(width, height) + _row(corner[1], corner[0])
    halves = boxes[:, 3:] * _row(width, height) / 2
    return np.concatenate([boxes[:, :1], centres - halves, centres + halves], axis=1)


def _seen(
    boxes: Boxes,
    canvas: tuple[int, int],
    corner: tuple[int, int],
    extent: tuple[int, int],
    size: tuple[int, int],
) -> Boxes:
    """Boxes in a window of the canvas, in its pixels once it is resized; those of which little is left are dropped.

    What lies beyond the canvas was not pasted, so it is as lost as what lies beyond the window.
    """
    offset = _row(*corner[::-1], *corner[::-1])
    ratio = _row(size[1] / extent[1], size[0] / extent[0], size[1] / extent[1], size[0] / extent[0])
    on_canvas = np.clip(boxes[:, 1:], 0, _row(*canvas[::-1], *canvas[::-1]))
    inside = np.clip((on_canvas - offset) * ratio, 0, _row(*size[::-1], *size[::-1]))
    sides = inside[:, 2:] - inside[:, :2]
    whole = (boxes[:, 3:] - boxes[:, 1:3]) * ratio[:2]
    share = sides.prod(1) / np.maximum(whole.prod(1), 1e-9)
    keep = (sides.min(1) >= LEAST_SIDE) & (share >= LEAST_SHARE)
    return np.concatenate([boxes[keep, :1], inside[keep]], axis=1)


def _centred(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    """Class, centre and extent as shares of the image, of boxes given by their sides in pixels."""
    shares = boxes[:, 1:] / _row(*size[::-1], *size[::-1])
    return np.concatenate([boxes[:, :1], (shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]], axis=1)


def _recoloured(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Image of another saturation and brightness."""
    saturation, brightness = rng.uniform(1 - SATURATION, 1 + SATURATION), rng.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS)
    values = image.astype(np.float32)
    if len(image) == len(LUMINANCE):
        grey = np.tensordot(np.array(LUMINANCE, dtype=np.float32), values, 1)
        values = grey + np.float32(saturation) * (values - grey)
    return np.asarray(np.clip(np.rint(values * np.float32(brightness)), 0, 255), dtype=np.uint8)


def _row(*values: float) -> Boxes:
    return np.array(values, dtype=np.float32)
