"""Tiny ImageNet and ImageNet as they are published: which file is in which split and class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from hdapbench.data.folder import CLASS_FOLDERS, TEST, TRAIN, VAL, Files, FolderFormat, class_folders
from hdapbench.data.source import file_names, is_image, read_texts
from hdapbench.errors import DataError

ANNOTATIONS = "val_annotations.txt"
UNSORTED = "images"
"""Folder that stands where a class would: what lies in it has no class by its place."""

TINY_ADVICE = (
    "get tiny-imagenet-200.zip from http://cs231n.stanford.edu/tiny-imagenet-200.zip, unpack it, and set data.path to "
    f"the folder: train/<wnid>/images/*.JPEG, val/images/*.JPEG and val/{ANNOTATIONS}"
)
IMAGENET_ADVICE = (
    "get ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from https://image-net.org/download.php (an account is "
    "needed), unpack them as torchvision.datasets.ImageNet does, and set data.path to the folder: "
    "train/<wnid>/*.JPEG and val/<wnid>/*.JPEG"
)


def tiny_imagenet_files(source: Path) -> Files:
    """Files of the published layout, whose validation images lie in one folder, with their classes in a text file.

    A ``val`` that was sorted into class folders is understood as well. The published test images have no labels, so
    the validation images are what models are tested on.

    Raises
    ------
    DataError
        When validation images are not in the text file.
    """
    found = class_folders(source)
    tested = found[VAL] or found[TEST]
    if set(tested.values()) != {UNSORTED}:
        return {TRAIN: found[TRAIN], TEST: tested, VAL: tested}
    if not found[VAL]:  # only the published test images, which nobody outside has labels of
        return {TRAIN: found[TRAIN], TEST: {}, VAL: {}}
    classes = _annotated(source)
    missing = [name for name in tested if PurePosixPath(name).name not in classes]
    if missing:
        raise DataError(f"'{source}': {ANNOTATIONS} lacks {len(missing)} images, such as {missing[0]}; {TINY_ADVICE}")
    test = {name: classes[PurePosixPath(name).name] for name in tested}
    return {TRAIN: found[TRAIN], TEST: test, VAL: test}


def _annotated(source: Path) -> dict[str, str]:
    """Validation image -> class, from the text file beside the images."""
    if source.is_dir():
        paths = sorted(source.rglob(ANNOTATIONS))
        texts = {str(path): path.read_text(encoding="utf-8") for path in paths}
    else:
        texts = {name: text for name, text in read_texts(source).items() if PurePosixPath(name).name == ANNOTATIONS}
    if not texts:
        raise DataError(f"'{source}' holds no {ANNOTATIONS}; {TINY_ADVICE}")
    lines = [line.split("\t") for text in texts.values() for line in text.splitlines() if line.strip()]
    return {fields[0]: fields[1] for fields in lines if len(fields) > 1}


def count_class_folders(source: Path) -> int:
    """Classes of a set in class folders, in a folder or an archive: entries of its train split.

    Raises
    ------
    DataError
        When there is no such set.
    """
    if not source.exists():
        raise DataError(f"there is no '{source}'")
    for folder in (source, *sorted(path for path in source.glob("*") if path.is_dir())):
        if (folder / TRAIN).is_dir():
            return sum(entry.is_dir() for entry in (folder / TRAIN).iterdir())
    if source.is_dir():
        raise DataError(f"'{source}' holds no folder {TRAIN}/")
    names = [PurePosixPath(name).parts for name in file_names(source) if is_image(name)]
    classes = {parts[parts.index(TRAIN) + 1] for parts in names if TRAIN in parts[:2]}
    if not classes:
        raise DataError(f"'{source}' holds no images under {TRAIN}/")
    return len(classes)


IMAGENET = replace(CLASS_FOLDERS, advice=IMAGENET_ADVICE)
TINY_IMAGENET = FolderFormat(tiny_imagenet_files, TINY_ADVICE)
