"""The data sets that ship; pyproject.toml offers them by entry point, as other packages offer theirs."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hdapbench.data import box_layout, cifar, imagenet, speech
from hdapbench.data.boxes import BoxSet
from hdapbench.data.decode import GREY, resized_images
from hdapbench.data.folder import CLASS_FOLDERS, FolderFormat, count_listed_classes, load_folder
from hdapbench.data.images import DataSplits
from hdapbench.data.labelled import Labelled, Statistics, split_labelled
from hdapbench.data.load import DataRequest, DataSet
from hdapbench.data.reading import Reading
from hdapbench.data.scenes import make_scenes
from hdapbench.data.split import share_count, stratified_order
from hdapbench.data.yolo import BOXES, STARTS, load_yolo
from hdapbench.errors import DataError
from hdapbench.spec.data import ADVICE

if TYPE_CHECKING:
    from hdapbench.data.cache import DecodedPart
    from hdapbench.spec import DataSpec

# Mean and standard deviation of digits at 16x16, of CIFAR-10's training images, and of ImageNet as torchvision uses it.
DIGITS_STATISTICS: Statistics = ((0.305,), (0.319,))
CIFAR10_STATISTICS: Statistics = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
IMAGENET_STATISTICS: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

SPEECH_STATISTICS: Statistics = ((0.476,), (0.131,))
"""Mean and standard deviation of spoken digits at 49 frames and 10 coefficients."""

DIGITS_LEVELS = 16
"""Pixels of scikit-learn's digits count from 0 to 16."""


def _digits(request: DataRequest) -> DataSplits:
    """The 1,797 handwritten digits of scikit-learn."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    order = stratified_order(raw.target.astype(np.int64))
    pixels = torch.from_numpy(raw.images[order]).float().unsqueeze(1) * (255.0 / DIGITS_LEVELS)
    images = resized_images(pixels, request.input_shape)
    labels = torch.from_numpy(raw.target[order].astype(np.int64))
    n_test = share_count(len(labels), request.spec.test_share, 10)
    train, test = (images[n_test:], labels[n_test:]), (images[:n_test], labels[:n_test])
    return split_labelled(request.spec, Labelled(train, test, DIGITS_STATISTICS))


def _cifar10(request: DataRequest) -> DataSplits:
    images, classes, test_images, test_classes = cifar.load_cifar10(request.reading(ADVICE["cifar10"]).source)
    order = torch.from_numpy(stratified_order(classes))
    train = resized_images(images, request.input_shape)[order], torch.from_numpy(classes)[order]
    test = resized_images(test_images, request.input_shape), torch.from_numpy(test_classes)
    return split_labelled(request.spec, Labelled(train, test, CIFAR10_STATISTICS, class_names=cifar.CIFAR10_CLASSES))


def _folder(form: FolderFormat, request: DataRequest, statistics: Statistics = IMAGENET_STATISTICS) -> DataSplits:
    train, test = load_folder(request.reading(form.advice), cache_dir=request.cache_dir, form=form)
    found = Labelled(
        (train.images, train.labels),
        (test.images, test.labels),
        statistics,
        n_classes=len(train.layout.classes),
        class_names=tuple(train.layout.classes),
        digest=f"{train.layout.digest}|{test.layout.digest}",
        n_skipped=train.layout.n_skipped + test.layout.n_skipped,
    )
    return split_labelled(request.spec, found)


def _speech_commands(request: DataRequest) -> DataSplits:
    shape = request.input_shape
    if shape[0] != GREY or shape[2] > speech.N_MELS:
        raise DataError(
            f"speech-commands needs model.input_shape [1, frames, coefficients] with {speech.N_MELS} coefficients at "
            f"most, such as [1, 49, 10], not {list(shape)}"
        )
    return _folder(speech.SPEECH_COMMANDS, request, SPEECH_STATISTICS)


def _yolo(request: DataRequest) -> DataSplits:
    reading = request.reading(ADVICE["yolo"])
    return _box_splits(request.spec, *load_yolo(reading, cache_dir=request.cache_dir))


def _digit_scenes(request: DataRequest) -> DataSplits:
    folder = make_scenes(request.cache_dir, request.input_shape)
    reading = Reading(folder, request.input_shape, on_progress=request.on_progress)
    return _box_splits(request.spec, *load_yolo(reading, cache_dir=request.cache_dir))


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
        class_names=tuple(train.layout.classes),
        content_hash=hashlib.sha256(digest.encode()).hexdigest(),
        n_skipped=train.layout.n_skipped + test.layout.n_skipped,
    )


DIGITS = DataSet(_digits)
IMAGEFOLDER = DataSet(partial(_folder, CLASS_FOLDERS), partial(count_listed_classes, CLASS_FOLDERS))
CIFAR10 = DataSet(_cifar10, cifar.count_classes)
TINY_IMAGENET = DataSet(partial(_folder, imagenet.TINY_IMAGENET), partial(count_listed_classes, imagenet.TINY_IMAGENET))
IMAGENET = DataSet(partial(_folder, imagenet.IMAGENET), partial(count_listed_classes, imagenet.IMAGENET))
SPEECH_COMMANDS = DataSet(_speech_commands, partial(count_listed_classes, speech.SPEECH_COMMANDS))
DIGIT_SCENES = DataSet(_digit_scenes)
YOLO = DataSet(_yolo, lambda source: len(box_layout.read_classes(source)))
