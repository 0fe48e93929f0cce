"""The data of a spec, split three ways."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hdapbench.data.cifar import ADVICE, load_cifar10
from hdapbench.data.decode import GREY, RGB, check_channels, fit_images
from hdapbench.data.folder import LAYOUT, load_folder
from hdapbench.data.images import DataSplits, ImageSet
from hdapbench.data.split import share_count, stratified_order
from hdapbench.errors import DataError
from hdapbench.paths import expand_path

if TYPE_CHECKING:
    from hdapbench.spec import DataSpec

Statistics = tuple[tuple[float, ...], tuple[float, ...]]

# Mean and standard deviation of digits at 16x16, of CIFAR-10's training images, and of ImageNet as torchvision uses it.
DIGITS_STATISTICS: Statistics = ((0.305,), (0.319,))
CIFAR10_STATISTICS: Statistics = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
IMAGENET_STATISTICS: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

DIGITS_LEVELS = 16
"""Pixels of scikit-learn's digits count from 0 to 16."""


def load_data(
    spec: DataSpec,
    input_shape: tuple[int, int, int],
    *,
    base_dir: Path,
    cache_dir: Path,
    on_progress: Callable[[str], None] | None = None,
) -> DataSplits:
    """Train, search and test images of a spec, at the size and channels that the network takes.

    The splits are the same on every machine: stratified, with a fixed seed.

    Parameters
    ----------
    spec
        Name, path and shares.
    input_shape
        Channels, height and width of one image.
    base_dir
        Folder that a relative ``spec.path`` starts from.
    cache_dir
        Where decoded images are kept.
    on_progress
        Called with a line of text now and then while images are decoded.

    Raises
    ------
    DataError
        When the data set is absent, damaged, or not laid out as expected.
    """
    check_channels(input_shape)
    if spec.name == "digits":
        images, labels, test_images, test_labels = _digits(input_shape, spec.test_share)
        statistics = DIGITS_STATISTICS
    elif spec.name == "cifar10":
        source = _source(spec, base_dir, ADVICE)
        images, train_classes, test_images, test_classes = load_cifar10(source)
        order = torch.from_numpy(stratified_order(train_classes))
        images, labels = fit_images(images, input_shape)[order], torch.from_numpy(train_classes)[order]
        test_images, test_labels = fit_images(test_images, input_shape), torch.from_numpy(test_classes)
        statistics = CIFAR10_STATISTICS
    else:
        source = _source(spec, base_dir, LAYOUT)
        train, test = load_folder(source, input_shape, cache_dir=cache_dir, on_progress=on_progress)
        images, labels, test_images, test_labels = train.images, train.labels, test.images, test.labels
        statistics = IMAGENET_STATISTICS
    return _splits(spec, (images, labels), (test_images, test_labels), statistics)


def _digits(input_shape: tuple[int, int, int], test_share: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The 1,797 handwritten digits of scikit-learn: train and test images and labels."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    order = stratified_order(raw.target.astype(np.int64))
    pixels = torch.from_numpy(raw.images[order]).float().unsqueeze(1) * (255.0 / DIGITS_LEVELS)
    images = fit_images(pixels, input_shape)
    labels = torch.from_numpy(raw.target[order].astype(np.int64))
    n_test = share_count(len(labels), test_share, 10)
    return images[n_test:], labels[n_test:], images[:n_test], labels[:n_test]


def _source(spec: DataSpec, base_dir: Path, advice: str) -> Path:
    if spec.path is None:
        raise DataError(f"data.path is missing: {spec.name} needs to know where the images are; {advice}")
    return base_dir / expand_path(spec.path)


def _splits(
    spec: DataSpec, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], statistics: Statistics
) -> DataSplits:
    """Splits of training images in stratified order, the first of which are searched on."""
    (images, labels), (test_images, test_labels) = train, test
    n_classes = int(labels.max()) + 1
    if len(labels) < 2 * n_classes:
        raise DataError(f"{len(labels)} training images of {n_classes} classes are too few to hold some out")
    n_search = share_count(len(labels), spec.search_share, n_classes)
    mean, std = _normalisation(spec, statistics, images.shape[1])

    def image_set(part_images: Tensor, part_labels: Tensor) -> ImageSet:
        return ImageSet(part_images, part_labels, mean=mean, std=std, augment=spec.augment)

    parts = (
        image_set(images[n_search:], labels[n_search:]),
        image_set(images[:n_search], labels[:n_search]),
        image_set(test_images, test_labels),
    )
    digest = hashlib.sha256(repr((mean, std, spec.augment)).encode())
    for part in parts:
        digest.update(repr(tuple(part.images.shape)).encode())
        digest.update(part.labels.contiguous().numpy().data)
        digest.update(part.images.contiguous().numpy().data)
    return DataSplits(*parts, n_classes=n_classes, content_hash=digest.hexdigest())


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
