"""Images and the batches that training and evaluation draw from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from hdapbench.data.live import FileImages, ahead

StoredImages = Tensor | FileImages
"""In memory, mapped from a file, or still in their files."""

CROP_MARGIN = 4
"""Pixels of padding around an image before a random crop (He et al. 2016, section 4.2)."""

SHIFT_SHARE = 8
"""Images are shifted by up to 1/8 of their height and width."""

LEAST_AREA = 0.25
ASPECTS = (3 / 4, 4 / 3)
"""Share of the image and aspect ratio of a resized crop (Szegedy et al. 2015, with less of the image cut away)."""


class Samples(Protocol):
    """What models are trained and evaluated on."""

    def __len__(self) -> int:
        """Number of images."""

    def batches(
        self, batch_size: int, *, shuffle_seed: int | None, augment: bool = False, limit: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Images, shape (n, channels, height, width), and their labels, in the form that the task takes.

        Parameters
        ----------
        batch_size
            Images per batch; the last batch may be smaller.
        shuffle_seed
            Fixes order and augmentation; None keeps the stored order.
        augment
            Whether the set's augmentation is applied.
        limit
            Only so many images, the first ones in that order.
        """


@dataclass(frozen=True)
class ImageSet:
    """Labelled images, decoded but not normalised.

    Attributes
    ----------
    images : uint8, shape (n, channels, height, width)
        In memory, mapped from a file, or decoded from their files as they are needed.
    labels : Tensor, int64, shape (n,)
    mean, std
        Per channel, of pixels scaled to [0, 1].
    augment
        What ``batches(augment=True)`` does to images: ``none``, ``flip-crop``, ``shift`` or ``resized-crop``.
    """

    images: StoredImages
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: str = "none"

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self, batch_size: int, *, shuffle_seed: int | None, augment: bool = False, limit: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised float32 images, shape (batch_size, channels, height, width), and labels, shape (batch_size,)."""
        made = self._batches(batch_size, shuffle_seed, augment=augment, limit=limit)
        return made if isinstance(self.images, Tensor) else ahead(made)

    def _batches(
        self, batch_size: int, shuffle_seed: int | None, *, augment: bool, limit: int | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(shuffle_seed or 0)
        n = len(self)
        order = torch.arange(n) if shuffle_seed is None else torch.randperm(n, generator=generator)
        scale = 1.0 / (255.0 * torch.tensor(self.std).reshape(1, -1, 1, 1))
        offset = -(torch.tensor(self.mean) / torch.tensor(self.std)).reshape(1, -1, 1, 1)
        for chosen in torch.split(order[:limit], batch_size):
            images = self.images[chosen]
            if augment and self.augment != "none":
                images = _augmented(images, self.augment, generator)
            yield images.float().mul_(scale).add_(offset), self.labels[chosen]


@dataclass(frozen=True)
class DataSplits:
    """Three disjoint parts of a data set.

    Attributes
    ----------
    train, search, test
        What models are fitted on, what methods may score on, and what only the final evaluation sees.
    n_classes
        Number of classes.
    content_hash
        SHA-256 over images, labels, normalisation and augmentation of all three parts.
    n_skipped
        Files that were left out, because they could not be read or are of other kinds.
    class_names
        In the order of labels; empty where classes are numbers alone.
    """

    train: Samples
    search: Samples
    test: Samples
    n_classes: int
    content_hash: str
    n_skipped: int = 0
    class_names: tuple[str, ...] = ()


def part_of(images: StoredImages, chosen: slice) -> StoredImages:
    """The images of a slice, neither copied nor decoded."""
    return images[chosen] if isinstance(images, Tensor) else images.part(chosen)


def _augmented(images: Tensor, augment: str, generator: torch.Generator) -> Tensor:
    """Images moved by a random number of pixels each, and for flip-crop half of them mirrored."""
    if augment == "resized-crop":
        return torch.stack([_resized_crop(image, generator) for image in images])
    n, n_channels, height, width = images.shape
    if augment == "flip-crop":
        down = right = CROP_MARGIN
        mirrored = torch.rand(n, generator=generator) < 0.5
    else:
        down, right = max(1, height // SHIFT_SHARE), max(1, width // SHIFT_SHARE)
        mirrored = torch.zeros(n, dtype=torch.bool)
    top = torch.randint(0, 2 * down + 1, (n, 1), generator=generator)
    left = torch.randint(0, 2 * right + 1, (n, 1), generator=generator)
    rows = top + torch.arange(height)  # (n, height)
    columns = left + torch.where(mirrored[:, None], torch.arange(width).flip(0), torch.arange(width))  # (n, width)
    padded = functional.pad(images, (right, right, down, down))
    return padded[
        torch.arange(n)[:, None, None, None],
        torch.arange(n_channels)[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]


def _resized_crop(image: Tensor, generator: torch.Generator) -> Tensor:
    """A random part of an image, shape (channels, height, width), at the size of the whole; half of them mirrored."""
    _, height, width = image.shape
    area, shape, mirrored = torch.rand(3, generator=generator).tolist()
    area = LEAST_AREA + (1.0 - LEAST_AREA) * area
    aspect = ASPECTS[0] * (ASPECTS[1] / ASPECTS[0]) ** shape
    rows = min(height, max(1, round(height * (area / aspect) ** 0.5)))
    columns = min(width, max(1, round(width * (area * aspect) ** 0.5)))
    top = int(torch.randint(0, height - rows + 1, (), generator=generator))
    left = int(torch.randint(0, width - columns + 1, (), generator=generator))
    crop = image[None, :, top : top + rows, left : left + columns]
    resized = functional.interpolate(crop, size=(height, width), mode="bilinear", antialias=True)[0]
    return resized.flip(2) if mirrored < 0.5 else resized
