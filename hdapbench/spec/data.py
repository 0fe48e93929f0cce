"""The data of a spec, and the names that data sets of installed packages have there."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from hdapbench.spec.base import Share, Strict, sequence_to_tuple
from hdapbench.spec.plugins import plugin_names

IMAGE_DATASETS, BOX_DATASETS = "hdapbench.datasets", "hdapbench.datasets.boxes"
"""Entry point groups of labelled images and of images with boxes: two, so that no check of a spec imports a set."""

SHIPPED = ("digits", "imagefolder", "cifar10", "tiny-imagenet", "imagenet", "speech-commands", "digit-scenes", "yolo")
"""Data sets that ship, in the order in which messages name them."""

EMBEDDED = frozenset({"digits", "digit-scenes"})
"""Those that need no path."""

ADVICE = {
    "imagefolder": "expected train/<class>/*.jpg and test/<class>/*.jpg (or val/)",
    "cifar10": (
        "get cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html, unpack it, and set data.path to "
        "the folder that holds cifar-10-batches-py/"
    ),
    "tiny-imagenet": (
        "get tiny-imagenet-200.zip from http://cs231n.stanford.edu/tiny-imagenet-200.zip, unpack it, and set data.path "
        "to the folder: train/<wnid>/images/*.JPEG, val/images/*.JPEG and val/val_annotations.txt"
    ),
    "imagenet": (
        "get ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from https://image-net.org/download.php (an account "
        "is needed), unpack them as torchvision.datasets.ImageNet does, and set data.path to the folder: "
        "train/<wnid>/*.JPEG and val/<wnid>/*.JPEG"
    ),
    "speech-commands": (
        "get speech_commands_v0.02.tar.gz from http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz, and "
        "set data.path to it or to the unpacked folder: <word>/*.wav (16 kHz, mono, 16 bits) and testing_list.txt"
    ),
    "yolo": (
        "set data.path to an ultralytics data yaml (path, train, val or test, names), or to a folder or tar archive "
        "with a data.yaml in it; labels lie in labels/ beside images/, one .txt per image with lines "
        "'class x y width height'"
    ),
}
"""Where sets that need a path can be had, and how they are laid out."""

BOX_AUGMENTATIONS = frozenset({"mosaic", "mosaic-flip"})

Channels = Annotated[tuple[float, ...], BeforeValidator(sequence_to_tuple), Field(min_length=1, max_length=4)]


def dataset_names() -> tuple[str, ...]:
    """Names of all data sets that installed packages offer, those that ship first; nothing is imported."""
    names = (*plugin_names(IMAGE_DATASETS), *plugin_names(BOX_DATASETS))
    return tuple(sorted(names, key=lambda name: SHIPPED.index(name) if name in SHIPPED else len(SHIPPED)))


def dataset_group(name: str) -> str:
    """Entry point group that offers a data set; of an unknown one that of labelled images."""
    return BOX_DATASETS if name in plugin_names(BOX_DATASETS) else IMAGE_DATASETS


class NormalizeSpec(Strict):
    """Mean and standard deviation per channel, of inputs scaled to [0, 1]."""

    mean: Channels = Field(description="Mean per channel.")
    std: Channels = Field(description="Standard deviation per channel.")


class DataSpec(Strict):
    """The data set and how it is split into disjoint train, search and test parts."""

    name: str = Field(
        min_length=1,
        description="Labelled images: digits, imagefolder, cifar10, tiny-imagenet, imagenet, speech-commands; with "
        "boxes: digit-scenes, yolo; or a set of another package.",
        json_schema_extra={"anyOf": [{"enum": [*SHIPPED]}, {"type": "string"}]},
    )
    path: str | None = Field(
        default=None,
        description="Folder, tar archive or, of yolo, data yaml; ${NAME}, ${NAME:-default} and ~ are expanded.",
    )
    search_share: Share = Field(
        default=0.1, description="Share of the training images held out for methods to search on."
    )
    test_share: Share = Field(default=0.2, description="Share held out for testing, for sets without a test split.")
    normalize: NormalizeSpec | None = Field(default=None, description="Input normalisation; the set's own by default.")
    augment: Literal["none", "flip-crop", "shift", "resized-crop", "mosaic", "mosaic-flip"] = Field(
        default="none",
        description="Training augmentation: flip-crop, shift and resized-crop of single images; mosaic and mosaic-flip "
        "of images with boxes.",
    )
    test_speakers: Annotated[tuple[str, ...], BeforeValidator(sequence_to_tuple)] = Field(
        default=(),
        exclude_if=lambda value: not value,
        description="Of speech-commands: speakers whose recordings are tested, in place of the test list; nobody hears "
        "them before. File names begin with the speaker.",
    )
    corrupt: Literal["fail", "skip"] = Field(
        default="fail",
        exclude_if=lambda value: value == "fail",
        description="What files that cannot be read do: end the run, or be left out and counted.",
    )

    decode: Literal["auto", "once", "live"] = Field(
        default="auto",
        exclude_if=lambda value: value == "auto",
        description="Keep decoded images in the cache (once), or decode them whenever they are needed (live); auto is "
        "live for folders of more than 20 GiB decoded.",
    )

    @property
    def holds_boxes(self) -> bool | None:
        """Whether images have boxes rather than one class each; None of a set that no installed package offers."""
        if self.name in plugin_names(BOX_DATASETS):
            return True
        return False if self.name in plugin_names(IMAGE_DATASETS) else None

    @model_validator(mode="after")
    def _shares_leave_training_images(self) -> DataSpec:
        if self.search_share + self.test_share >= 1.0:
            raise ValueError("search_share + test_share must stay below 1, or nothing is left to train on")
        return self

    @model_validator(mode="after")
    def _speakers_fit(self) -> DataSpec:
        if self.test_speakers and self.name in SHIPPED and self.name != "speech-commands":
            raise ValueError(f"test_speakers is for speech-commands; {self.name} has no speakers: leave it out")
        return self

    @model_validator(mode="after")
    def _augmentation_fits(self) -> DataSpec:
        if self.augment != "none" and self.holds_boxes not in (None, self.augment in BOX_AUGMENTATIONS):
            fitting = "mosaic, mosaic-flip" if self.holds_boxes else "flip-crop, shift, resized-crop"
            raise ValueError(f"augment: {self.augment} is not for {self.name}; write one of: none, {fitting}")
        return self
