"""Decoded images on disk: written once under a key, mapped into memory from then on."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdapbench.arrays import Integers
from hdapbench.errors import DamagedCacheError, DataError
from hdapbench.files import flush_to_disk, process_mark

if TYPE_CHECKING:
    from hdapbench.data.live import FileImages

FORMAT = 2
"""Raised whenever decoding changes, so that old caches are not used."""

LAYOUT = "layout.json"


@dataclass(frozen=True)
class Layout:
    """What a decoded part holds: labels in stored order, class names, shape of the images, SHA-256 of it all.

    ``skipped`` maps files that cannot be read to the reason, ``left_out`` kinds of files that lie beside the images to
    their number; ``extras`` names further arrays.
    """

    labels: list[int]
    classes: list[str]
    shape: list[int]
    digest: str
    skipped: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    extras: list[str] = field(default_factory=list)

    @property
    def n_skipped(self) -> int:
        """Files that were left out, whatever the reason."""
        return len(self.skipped) + sum(self.left_out.values())


def cache_key(*parts: object) -> str:
    """Thirty-two hexadecimal digits of the things that decoded images depend on."""
    return hashlib.sha256(json.dumps([FORMAT, *parts], default=str).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class DecodedPart:
    """A part: images mapped from a file (or still in theirs), labels in the same order, and what it was made of."""

    images: Tensor | FileImages
    labels: Tensor
    layout: Layout
    extras: Mapping[str, Tensor] = field(default_factory=dict)


def read_part(folder: Path) -> DecodedPart | None:
    """Decoded part under ``folder``, its content checked; None when it is not there.

    Raises
    ------
    DamagedCacheError
        When the part is damaged.
    """
    try:
        layout = Layout(**json.loads((folder / LAYOUT).read_text(encoding="utf-8")))
        images = np.load(folder / "images.npy", mmap_mode="c")  # copy on write: torch wants writable memory
        extras = {name: np.load(folder / f"{name}.npy") for name in layout.extras}
        labels = np.array(layout.labels, dtype=np.int64)
        found = _digest(labels, images, layout.classes, extras)
    except FileNotFoundError as error:
        if not folder.is_dir():
            return None
        raise DamagedCacheError(f"the cache '{folder}' lacks {Path(error.filename).name}") from None
    except Exception as error:  # np.load raises whatever damaged bytes make it raise
        raise DamagedCacheError(f"the cache '{folder}' is damaged: {error}") from error
    if found != layout.digest:
        raise DamagedCacheError(f"the cache '{folder}' is damaged: its content is not what was stored")
    tensors = {name: torch.from_numpy(array) for name, array in extras.items()}
    return DecodedPart(torch.from_numpy(images), torch.from_numpy(labels), layout, tensors)


def _digest(labels: Integers, images: NDArray[Any], classes: Sequence[str], extras: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of a part."""
    digest = hashlib.sha256(labels.astype("<i8").tobytes())
    digest.update(repr((tuple(images.shape), list(classes))).encode())
    digest.update(np.ascontiguousarray(images).data)
    for name, array in extras.items():
        digest.update(f"{name}|{array.dtype}|{array.shape}|".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def write_part(
    folder: Path,
    labels: Integers,
    images: Iterable[tuple[int, NDArray[np.uint8]]],
    *,
    image_shape: tuple[int, int, int],
    classes: Sequence[str],
    skipped: Mapping[str, str] | None = None,
    left_out: Mapping[str, int] | None = None,
    extras: Callable[[], Mapping[str, NDArray[Any]]] = dict,
) -> None:
    """Store a part under ``folder``, in one step: a reader sees all of it or nothing.

    Parameters
    ----------
    folder
        Created here; when another process made it meanwhile, that one is kept.
    labels : ndarray, shape (n,)
        Class of each image, in stored order.
    images
        Position in the stored order and pixels, shape ``image_shape``, of every image, in any order.
    image_shape
        Channels, height and width.
    classes
        Names of the classes that labels count through.
    skipped
        Files that cannot be read, and why.
    left_out
        Kinds of files beside the images, and how many there are.
    extras
        Called once all images are stored: further arrays by name, such as boxes.
    """
    with whole_folder(folder) as partial:
        shape = (len(labels), *image_shape)
        stored = _reserved(partial / "images.npy", shape)
        for position, pixels in images:
            stored[position] = pixels
        stored.flush()
        arrays = dict(extras())
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array)
        layout = Layout(
            labels=labels.tolist(),
            classes=list(classes),
            shape=list(shape),
            digest=_digest(labels, stored, classes, arrays),
            skipped=dict(skipped or {}),
            left_out=dict(left_out or {}),
            extras=list(arrays),
        )
        (partial / LAYOUT).write_text(json.dumps(asdict(layout)), encoding="utf-8")


def _reserved(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    """Array in a file whose place on the disk is taken: to write to it later ends in no signal when the disk is full.

    Raises
    ------
    OSError
        When there is no such place.
    """
    stored = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS and Windows
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return stored


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Empty folder to fill, which becomes ``folder`` when the block ends without an error: readers see all or nothing.

    When another process made ``folder`` meanwhile, that one is kept.

    Raises
    ------
    DataError
        When it cannot be written, such as on a full disk.
    """
    partial = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{process_mark()}{folder.name}-", dir=folder.parent))
        yield partial
        for file in partial.iterdir():
            flush_to_disk(file)
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        raise DataError(f"'{folder}' cannot be written: {error.strerror}") from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
