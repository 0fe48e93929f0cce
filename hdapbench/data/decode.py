"""Pixels in the channels, height and width that a network takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hdapbench.errors import DataError

GREY, RGB = 1, 3
LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue, ITU-R BT.601, as Pillow converts to grey."""

LETTERBOX_GREY = 114
"""What ultralytics fills letterboxes with, and what no image of a mosaic covers."""

RESIZE_CHUNK = 1000


def check_channels(input_shape: tuple[int, int, int]) -> None:
    """Refuse input shapes that no image can be brought to.

    Raises
    ------
    DataError
        When the channels are neither 1 nor 3.
    """
    if input_shape[0] not in (GREY, RGB):
        raise DataError(f"images have 1 or 3 channels, but input_shape is {list(input_shape)}")


def decode_image(stream: IO[bytes], input_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Pixels of an image file, shape ``input_shape``: cut to the aspect ratio around the centre, then resized.

    Raises
    ------
    OSError, ValueError, SyntaxError
        Whatever Pillow finds wrong with the file.
    """
    from PIL import Image, ImageOps

    channels, height, width = input_shape
    with Image.open(stream) as image:
        converted = image.convert("L" if channels == GREY else "RGB")
    if converted.size != (width, height):
        converted = ImageOps.fit(converted, (width, height), method=Image.Resampling.BILINEAR)
    pixels = np.asarray(converted, dtype=np.uint8).reshape(height, width, channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


@dataclass(frozen=True)
class Letterbox:
    """Where an image lies in its letterbox: height and width, and the top left corner, in pixels."""

    extent: tuple[int, int]
    corner: tuple[int, int]

    def placed(self, boxes: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
        """Boxes, centre and extent as shares of the image, shape (k, 4), as shares of a letterbox of this size."""
        height, width = size
        shares = np.array([self.extent[1] / width, self.extent[0] / height] * 2, dtype=np.float32)
        offset = np.array([self.corner[1] / width, self.corner[0] / height, 0, 0], dtype=np.float32)
        return np.asarray(boxes * shares + offset, dtype=np.float32)


def decode_letterboxed(stream: IO[bytes], input_shape: tuple[int, int, int]) -> tuple[NDArray[np.uint8], Letterbox]:
    """Pixels of an image file, shape ``input_shape``: scaled to fit, centred, the rest grey; and where it lies.

    Raises
    ------
    OSError, ValueError, SyntaxError
        Whatever Pillow finds wrong with the file.
    """
    from PIL import Image, ImageOps

    channels, height, width = input_shape
    with Image.open(stream) as image:
        # Cameras note how they were held; labels are drawn on the image as it is shown.
        upright = ImageOps.exif_transpose(image) or image
        converted = upright.convert("L" if channels == GREY else "RGB")
    ratio = min(height / converted.height, width / converted.width)
    size = (max(1, round(converted.width * ratio)), max(1, round(converted.height * ratio)))
    if converted.size != size:
        converted = converted.resize(size, resample=Image.Resampling.BILINEAR)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    pixels = np.full((height, width, channels), LETTERBOX_GREY, dtype=np.uint8)
    pixels[top : top + size[1], left : left + size[0]] = np.asarray(converted).reshape(size[1], size[0], channels)
    frame = Letterbox((size[1], size[0]), (top, left))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)), frame


def resized_images(images: Tensor, input_shape: tuple[int, int, int]) -> Tensor:
    """Images as uint8 of shape (n, *input_shape), from any number of pixels and from 1 or 3 channels.

    Parameters
    ----------
    images : Tensor, shape (n, 1 or 3, height, width)
        Pixels in [0, 255], of any type.
    """
    channels, height, width = input_shape
    if images.dtype == torch.uint8 and tuple(images.shape[1:]) == input_shape:
        return images
    parts = []
    for part in torch.split(images, RESIZE_CHUNK):
        chunk = part.float()
        if channels == GREY and chunk.shape[1] == RGB:
            chunk = (chunk * torch.tensor(LUMINANCE).reshape(1, -1, 1, 1)).sum(1, keepdim=True)
        if tuple(chunk.shape[2:]) != (height, width):
            chunk = functional.interpolate(chunk, size=(height, width), mode="bilinear", antialias=True)
        parts.append(chunk.expand(-1, channels, -1, -1).round().clamp(0, 255).to(torch.uint8))
    return torch.cat(parts)
