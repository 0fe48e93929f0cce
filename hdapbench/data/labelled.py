"""Images of one class each: held out for search, normalised, and hashed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from hdapbench.data.decode import GREY, RGB
from hdapbench.data.images import DataSplits, ImageSet, StoredImages, part_of
from hdapbench.data.split import share_count
from hdapbench.errors import DataError

if TYPE_CHECKING:
    from hdapbench.spec import DataSpec

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation per channel, of pixels scaled to [0, 1]."""


@dataclass(frozen=True)
class Labelled:
    """Images and their classes.

    Attributes
    ----------
    train
        Images, uint8 of shape (n, channels, height, width), and labels, int64 of shape (n,), in stratified order.
    test
        The same of test images, in any order.
    statistics
        Of the training images; a spec may give others.
    n_classes
        Number of classes; None takes the largest label.
    digest
        Hash of images and labels where one is known already.
    n_skipped
        Files that were left out.
    class_names
        In the order of labels, where classes have names.
    """

    train: tuple[StoredImages, Tensor]
    test: tuple[StoredImages, Tensor]
    statistics: Statistics
    n_classes: int | None = None
    digest: str | None = None
    n_skipped: int = 0
    class_names: tuple[str, ...] = ()


def split_labelled(spec: DataSpec, found: Labelled) -> DataSplits:
    """Splits of labelled images: the first training images, of all classes, are held out for search.

    Raises
    ------
    DataError
        When there are too few images, or the spec's normalisation is for other channels.
    """
    (images, labels), (test_images, test_labels) = found.train, found.test
    n_classes = found.n_classes or int(labels.max()) + 1
    if len(labels) < 2 * n_classes:
        raise DataError(f"{len(labels)} training images of {n_classes} classes are too few to hold some out")
    n_search = share_count(len(labels), spec.search_share, n_classes)
    untrained = sorted(set(labels[:n_search].tolist()) - set(labels[n_search:].tolist()))
    if untrained:
        raise DataError(f"class {untrained[0]} has too few images to be trained and searched on; lower search_share")
    mean, std = _normalisation(spec, found.statistics, images.shape[1])

    def image_set(part_images: StoredImages, part_labels: Tensor) -> ImageSet:
        return ImageSet(part_images, part_labels, mean=mean, std=std, augment=spec.augment)

    parts = (
        image_set(part_of(images, slice(n_search, None)), labels[n_search:]),
        image_set(part_of(images, slice(n_search)), labels[:n_search]),
        image_set(test_images, test_labels),
    )
    digest = hashlib.sha256(repr((mean, std, spec.augment)).encode())
    if found.digest is not None:
        digest.update(repr((found.digest, n_search)).encode())
    for part in parts if found.digest is None else ():
        assert isinstance(part.images, Tensor)  # noqa: S101 - images in files come with a digest
        digest.update(repr(tuple(part.images.shape)).encode())
        digest.update(part.labels.contiguous().numpy().data)
        digest.update(part.images.contiguous().numpy().data)
    return DataSplits(
        *parts,
        n_classes=n_classes,
        content_hash=digest.hexdigest(),
        n_skipped=found.n_skipped,
        class_names=found.class_names,
    )


def _normalisation(spec: DataSpec, statistics: Statistics, n_channels: int) -> Statistics:
    """Mean and standard deviation per channel: the spec's, or the set's own brought to the number of channels."""
    if spec.normalize is not None:
        given = (spec.normalize.mean, spec.normalize.std)
        if any(len(values) != n_channels for values in given) or min(spec.normalize.std) <= 0:
            raise DataError(f"data.normalize needs {n_channels} means and {n_channels} positive standard deviations")
        return given
    mean, std = statistics
    if len(mean) == n_channels:
        return mean, std
    if n_channels == GREY:
        return (sum(mean) / RGB,), (sum(std) / RGB,)
    return mean * n_channels, std * n_channels
