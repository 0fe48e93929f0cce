"""Tiny ImageNet and ImageNet as they are published: which file is in which split and class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

from hdapbench.data.folder import CLASS_FOLDERS, TEST, TRAIN, VAL, Files, FolderFormat, class_folders
from hdapbench.data.kinds import shown
from hdapbench.data.source import Contents, texts_of
from hdapbench.errors import DataError
from hdapbench.spec.data import ADVICE

ANNOTATIONS = "val_annotations.txt"
UNSORTED = "images"
"""Folder that stands where a class would: what lies in it has no class by its place."""


def tiny_imagenet_files(contents: Contents) -> Files:
    """Files of the published layout, whose validation images lie in one folder, with their classes in a text file.

    A ``val`` that was sorted into class folders is understood as well. The published test images have no labels, so
    the validation images are what models are tested on.

    Raises
    ------
    DataError
        When validation images are not in the text file.
    """
    found = class_folders(contents)
    tested = found[VAL] or found[TEST]
    if set(tested.values()) != {UNSORTED}:
        return {TRAIN: found[TRAIN], TEST: tested, VAL: tested}
    if not found[VAL]:  # only the published test images, which nobody outside has labels of
        return {TRAIN: found[TRAIN], TEST: {}, VAL: {}}
    classes = _annotated(contents)
    missing = [name for name in tested if PurePosixPath(name).name not in classes]
    if missing:
        some = f"{len(missing)} images, such as {shown(missing[0])}"
        raise DataError(f"'{contents.source}': {ANNOTATIONS} lacks {some}; {ADVICE['tiny-imagenet']}")
    test = {name: classes[PurePosixPath(name).name] for name in tested}
    return {TRAIN: found[TRAIN], TEST: test, VAL: test}


def _annotated(contents: Contents) -> dict[str, str]:
    """Validation image -> class, from the text file beside the images."""
    names = [name for name in contents.files if PurePosixPath(name).name == ANNOTATIONS]
    if not names:
        raise DataError(f"'{contents.source}' holds no {ANNOTATIONS}; {ADVICE['tiny-imagenet']}")
    lines = [line.split("\t") for text in texts_of(contents, names).values() for line in text.splitlines()]
    return {fields[0]: fields[1] for fields in lines if len(fields) > 1}


IMAGENET = replace(CLASS_FOLDERS, advice=ADVICE["imagenet"])
TINY_IMAGENET = FolderFormat(tiny_imagenet_files, ADVICE["tiny-imagenet"])
