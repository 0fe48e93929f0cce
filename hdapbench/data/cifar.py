"""CIFAR-10 as torchvision and its authors lay it out: pickled batches in ``cifar-10-batches-py``."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdapbench.arrays import Integers
from hdapbench.errors import DataError

FOLDER = "cifar-10-batches-py"
TRAIN_FILES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_FILES = ("test_batch",)
IMAGE_SHAPE = (3, 32, 32)
N_CLASSES = 10
ADVICE = (
    "get cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html, unpack it, and set data.path to the "
    f"folder that holds {FOLDER}/"
)


def load_cifar10(source: Path) -> tuple[Tensor, Integers, Tensor, Integers]:
    """Train images and labels, test images and labels; images are uint8 of shape (n, 3, 32, 32).

    Parameters
    ----------
    source
        Folder ``cifar-10-batches-py`` or the one that holds it. Nothing is downloaded.

    Raises
    ------
    DataError
        When files are missing, or are no CIFAR-10 batches.
    """
    folder = source / FOLDER if (source / FOLDER).is_dir() else source
    missing = [name for name in (*TRAIN_FILES, *TEST_FILES) if not (folder / name).is_file()]
    if missing:
        raise DataError(f"no CIFAR-10 in '{source}' (missing: {', '.join(missing)}); {ADVICE}")
    return *_batches(folder, TRAIN_FILES), *_batches(folder, TEST_FILES)


def _batches(folder: Path, names: tuple[str, ...]) -> tuple[Tensor, Integers]:
    images, labels = [], []
    for name in names:
        path = folder / name
        try:
            with path.open("rb") as stream:
                batch = _ArrayUnpickler(stream, encoding="latin1").load()
            images.append(np.asarray(batch["data"], dtype=np.uint8).reshape(-1, *IMAGE_SHAPE))
            labels.append(np.asarray(batch["labels"], dtype=np.int64).reshape(len(images[-1])))
        except Exception as error:  # unpickling raises whatever the bytes make it raise
            raise DataError(f"'{path}' is no batch of CIFAR-10 ({error}); {ADVICE}") from error
    return torch.from_numpy(np.concatenate(images)), np.concatenate(labels)


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler of numpy arrays in plain containers; anything else is refused, so that no code can run."""

    def find_class(self, module: str, name: str) -> Any:
        """Callable of that name, when it is one that arrays need.

        Raises
        ------
        UnpicklingError
            When it is another one.
        """
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _reconstruct
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if module == "_codecs" and name == "encode":
            return _encode
        raise pickle.UnpicklingError(f"{module}.{name} is not part of an array")


def _reconstruct(array_type: type, shape: tuple[int, ...], code: object) -> NDArray[Any]:
    """Empty array that the pickle then fills."""
    del array_type, shape, code  # always an ndarray of shape (0,)
    return np.empty((0,), dtype=np.uint8)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1" if encoding == "latin1" else "utf-8")
