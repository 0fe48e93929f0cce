"""The data of a spec, split three ways."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hdapbench.data import box_layout, cifar, imagenet, speech
from hdapbench.data.boxes import BoxSet
from hdapbench.data.decode import GREY, RGB, check_channels, fit_images
from hdapbench.data.folder import CLASS_FOLDERS, FolderKind, load_folder
from hdapbench.data.images import DataSplits, ImageSet, Pixels, part_of
from hdapbench.data.reading import Reading
from hdapbench.data.scenes import make_scenes
from hdapbench.data.source import Progress
from hdapbench.data.split import share_count, stratified_order
from hdapbench.data.yolo import BOXES, STARTS, load_yolo
from hdapbench.errors import DataError
from hdapbench.files import expand_path

if TYPE_CHECKING:
    from hdapbench.data.cache import DecodedPart
    from hdapbench.spec import DataSpec

Statistics = tuple[tuple[float, ...], tuple[float, ...]]

# Mean and standard deviation of digits at 16x16, of CIFAR-10's training images, and of ImageNet as torchvision uses it.
DIGITS_STATISTICS: Statistics = ((0.305,), (0.319,))
CIFAR10_STATISTICS: Statistics = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
IMAGENET_STATISTICS: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

SPEECH_STATISTICS: Statistics = ((0.476,), (0.131,))
"""Mean and standard deviation of spoken digits at 49 frames and 10 coefficients."""

DIGITS_LEVELS = 16
"""Pixels of scikit-learn's digits count from 0 to 16."""


@dataclass(frozen=True)
class Request:
    """What a loader is asked for; see `load_data`."""

    spec: DataSpec
    input_shape: tuple[int, int, int]
    base_dir: Path
    cache_dir: Path
    on_progress: Progress | None

    def reading(self, advice: str) -> Reading:
        """Reading of the files that the spec names.

        Raises
        ------
        DataError
            When it names none; ``advice`` says where to get the set and how to lay it out.
        """
        if self.spec.path is None:
            raise DataError(f"data.path is missing: {self.spec.name} needs to know where the images are; {advice}")
        source = self.base_dir / expand_path(self.spec.path)
        return Reading(source, self.input_shape, self.spec.corrupt, self.on_progress, decode=self.spec.decode)


@dataclass(frozen=True)
class Labelled:
    """Images and their classes, training images in stratified order.

    ``digest`` is a hash of images and labels where one is known already, ``skipped`` counts files left out.
    """

    train: tuple[Pixels, Tensor]
    test: tuple[Pixels, Tensor]
    statistics: Statistics
    n_classes: int | None = None
    digest: str | None = None
    skipped: int = 0


def load_data(
    spec: DataSpec,
    input_shape: tuple[int, int, int],
    *,
    base_dir: Path,
    cache_dir: Path,
    on_progress: Progress | None = None,
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
    request = Request(spec, input_shape, base_dir, cache_dir, on_progress)
    if spec.name in BOX_LOADERS:
        return _box_splits(spec, *BOX_LOADERS[spec.name](request))
    return _splits(spec, LOADERS[spec.name](request))


def count_classes(name: str, source: Path) -> int:
    """Classes of a set, found without decoding images.

    Parameters
    ----------
    name
        Set as in the spec.
    source
        Folder, archive or data yaml.

    Raises
    ------
    DataError
        When there is no such set, or none whose classes can be counted so.
    """
    if name in BOX_LOADERS:
        return len(box_layout.read_classes(source))
    if name == "cifar10":
        return cifar.N_CLASSES
    if name == "speech-commands":
        return len(set(speech.speech_files(source)["train"].values()))
    return imagenet.count_class_folders(source)


def _digits(request: Request) -> Labelled:
    """The 1,797 handwritten digits of scikit-learn."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    order = stratified_order(raw.target.astype(np.int64))
    pixels = torch.from_numpy(raw.images[order]).float().unsqueeze(1) * (255.0 / DIGITS_LEVELS)
    images = fit_images(pixels, request.input_shape)
    labels = torch.from_numpy(raw.target[order].astype(np.int64))
    n_test = share_count(len(labels), request.spec.test_share, 10)
    return Labelled((images[n_test:], labels[n_test:]), (images[:n_test], labels[:n_test]), DIGITS_STATISTICS)


def _cifar10(request: Request) -> Labelled:
    images, classes, test_images, test_classes = cifar.load_cifar10(request.reading(cifar.ADVICE).source)
    order = torch.from_numpy(stratified_order(classes))
    train = fit_images(images, request.input_shape)[order], torch.from_numpy(classes)[order]
    test = fit_images(test_images, request.input_shape), torch.from_numpy(test_classes)
    return Labelled(train, test, CIFAR10_STATISTICS)


def _image_folder(request: Request) -> Labelled:
    return _folder(request, CLASS_FOLDERS)


def _imagenet(request: Request) -> Labelled:
    return _folder(request, imagenet.IMAGENET)


def _tiny_imagenet(request: Request) -> Labelled:
    return _folder(request, imagenet.TINY_IMAGENET)


def _speech_commands(request: Request) -> Labelled:
    shape = request.input_shape
    if shape[0] != GREY or shape[2] > speech.N_MELS:
        raise DataError(
            f"speech-commands needs model.input_shape [1, frames, coefficients] with {speech.N_MELS} coefficients at "
            f"most, such as [1, 49, 10], not {list(shape)}"
        )
    return replace(_folder(request, speech.SPEECH_COMMANDS), statistics=SPEECH_STATISTICS)


def _folder(request: Request, kind: FolderKind) -> Labelled:
    train, test = load_folder(request.reading(kind.advice), cache_dir=request.cache_dir, kind=kind)
    return Labelled(
        (train.images, train.labels),
        (test.images, test.labels),
        IMAGENET_STATISTICS,
        n_classes=len(train.layout.classes),
        digest=f"{train.layout.digest}|{test.layout.digest}",
        skipped=len(train.layout.skipped) + len(test.layout.skipped),
    )


LOADERS: Mapping[str, Callable[[Request], Labelled]] = {
    "digits": _digits,
    "imagefolder": _image_folder,
    "cifar10": _cifar10,
    "tiny-imagenet": _tiny_imagenet,
    "imagenet": _imagenet,
    "speech-commands": _speech_commands,
}
"""Sets of labelled images: name in the spec -> loader."""


def _yolo(request: Request) -> tuple[DecodedPart, DecodedPart]:
    return load_yolo(request.reading(box_layout.ADVICE), cache_dir=request.cache_dir)


def _digit_scenes(request: Request) -> tuple[DecodedPart, DecodedPart]:
    folder = make_scenes(request.cache_dir, request.input_shape)
    reading = Reading(folder, request.input_shape, on_progress=request.on_progress)
    return load_yolo(reading, cache_dir=request.cache_dir)


BOX_LOADERS: Mapping[str, Callable[[Request], tuple[DecodedPart, DecodedPart]]] = {
    "yolo": _yolo,
    "digit-scenes": _digit_scenes,
}
"""Sets of images with boxes: name in the spec -> loader."""


def _splits(spec: DataSpec, found: Labelled) -> DataSplits:
    """Splits of training images in stratified order, the first of which are searched on."""
    (images, labels), (test_images, test_labels) = found.train, found.test
    n_classes = found.n_classes or int(labels.max()) + 1
    if len(labels) < 2 * n_classes:
        raise DataError(f"{len(labels)} training images of {n_classes} classes are too few to hold some out")
    n_search = share_count(len(labels), spec.search_share, n_classes)
    mean, std = _normalisation(spec, found.statistics, images.shape[1])

    def image_set(part_images: Pixels, part_labels: Tensor) -> ImageSet:
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
    return DataSplits(*parts, n_classes=n_classes, content_hash=digest.hexdigest(), n_skipped=found.skipped)


def _box_splits(spec: DataSpec, train: DecodedPart, test: DecodedPart) -> DataSplits:
    """Splits of images with boxes in stratified order, the first of which are searched on."""
    n_classes = len(train.layout.classes)
    if len(train.labels) < 4:
        raise DataError(f"{len(train.labels)} training images are too few to hold some out")
    n_search = share_count(len(train.labels), spec.search_share, min(n_classes, 2))
    digest = repr((train.layout.digest, test.layout.digest, n_search, spec.augment))

    def box_set(part: DecodedPart, first: int, last: int) -> BoxSet:
        starts = part.extras[STARTS][first : last + 1]
        boxes = part.extras[BOXES][int(starts[0]) : int(starts[-1])]
        assert isinstance(part.images, Tensor)  # noqa: S101 - images with boxes are always decoded once
        return BoxSet(part.images[first:last], boxes, starts - starts[0], augment=spec.augment)

    return DataSplits(
        box_set(train, n_search, len(train.labels)),
        box_set(train, 0, n_search),
        box_set(test, 0, len(test.labels)),
        n_classes=n_classes,
        content_hash=hashlib.sha256(digest.encode()).hexdigest(),
        n_skipped=len(train.layout.skipped) + len(test.layout.skipped),
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
