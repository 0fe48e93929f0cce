"""Pixels in the channels, height and width that a network takes."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import IO, TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hdapbench.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

GREY, RGB = 1, 3
LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue, ITU-R BT.601, as Pillow converts to grey."""

LETTERBOX_GREY = 114
"""What ultralytics fills letterboxes with, and what no image of a mosaic covers."""

RESIZE_CHUNK = 1000

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""What images may be, whatever their names say: Pillow would hand others to programs, such as PostScript to gs."""

LARGE_PIXELS = 1 << 24
_ONE_LARGE = threading.Lock()
"""Held while more than `LARGE_PIXELS` are decoded, so that threads do not each hold an image of gigabytes."""


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
    with _opened(stream) as image:
        converted = _converted(image, image.format, channels)
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
    with _opened(stream) as image:
        # Cameras note how they were held; labels are drawn on the image as it is shown.
        converted = _converted(ImageOps.exif_transpose(image) or image, image.format, channels)
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


@contextmanager
def _opened(stream: IO[bytes]) -> Iterator[Image]:
    """Image of a file, not decoded yet; of a file with several pages or frames the first.

    Raises
    ------
    ValueError
        When it has more pixels than Pillow thinks safe.
    """
    from PIL import Image

    try:
        image = Image.open(stream, formats=_formats())
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise ValueError(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller") from None
    with image, _ONE_LARGE if image.width * image.height > LARGE_PIXELS else nullcontext():
        yield image


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow reads; from then on its warning of bombs is an error, in all threads."""
    from PIL import Image

    Image.init()
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _converted(image: Image, form: str | None, channels: int) -> Image:
    """Image of 8 bits in grey or RGB; of 16 bits the upper 8.

    Raises
    ------
    ValueError
        When its pixels are whole numbers of 32 bits or floats, which say nothing of black and white.
    """
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and form in {"PNG", "PPM"}):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # Pillow would clip at 255
    elif image.mode.startswith(("I", "F")):
        raise ValueError(f"pixels of 32 bits (mode {image.mode}); save it with 8 or 16 bits")
    return image.convert("L" if channels == GREY else "RGB")
