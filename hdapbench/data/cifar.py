"""CIFAR-10 as torchvision and its authors lay it out: pickled batches in ``cifar-10-batches-py``."""

from __future__ import annotations

import pickle
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdapbench.arrays import Integers
from hdapbench.data.kinds import shown
from hdapbench.errors import DataError
from hdapbench.spec.data import ADVICE

FOLDER = "cifar-10-batches-py"
TRAIN_FILES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_FILES = ("test_batch",)
IMAGE_SHAPE = (3, 32, 32)
N_CLASSES = 10
MAX_BATCH_BYTES = 1 << 27


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
    folder = _folder(source)
    return *_batches(folder, TRAIN_FILES), *_batches(folder, TEST_FILES)


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def count_classes(source: Path) -> int:
    """Ten, of a folder that holds the batches' files.

    Raises
    ------
    DataError
        When files are missing.
    """
    _folder(source)
    return N_CLASSES


def _folder(source: Path) -> Path:
    """Folder of the batches' files, all of which are there."""
    folder = source / FOLDER if (source / FOLDER).is_dir() else source
    missing = [name for name in (*TRAIN_FILES, *TEST_FILES) if not (folder / name).is_file()]
    if missing:
        raise DataError(f"no CIFAR-10 in '{source}' (missing: {', '.join(missing)}); {ADVICE['cifar10']}")
    return folder


def _batches(folder: Path, names: tuple[str, ...]) -> tuple[Tensor, Integers]:
    images, labels = [], []
    for name in names:
        path = folder / name
        try:
            with path.open("rb") as stream:
                content = stream.read(MAX_BATCH_BYTES)
            batch = _ArrayUnpickler(BytesIO(content), encoding="latin1").load()
            images.append(_pixels(batch["data"]))
            labels.append(_labels(batch["labels"], len(images[-1])))
        except Exception as error:  # unpickling raises whatever the bytes make it raise
            told = shown(" ".join(str(error).split())[:80])
            raise DataError(f"'{path}' is no batch of CIFAR-10 ({told}); {ADVICE['cifar10']}") from error
    return torch.from_numpy(np.concatenate(images)), np.concatenate(labels)


def _pixels(array: object) -> NDArray[np.uint8]:
    """Images of an array's state: version, shape, type, order and bytes."""
    if not isinstance(array, _Array):
        raise ValueError("its data are no array")
    _version, _shape, kind, by_column, raw = array.state
    if not isinstance(kind, _Array) or kind.arguments[:1] not in (("u1",), ("|u1",)) or by_column:
        raise ValueError("its data are no array of bytes in rows")
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    if not isinstance(raw, bytes):
        raise ValueError("its data are no bytes")
    return np.frombuffer(raw, dtype=np.uint8).reshape(-1, *IMAGE_SHAPE)


def _labels(labels: object, n_images: int) -> Integers:
    if not isinstance(labels, list) or len(labels) != n_images:
        raise ValueError(f"it has no list of {n_images} labels")
    if not all(type(label) is int and 0 <= label < N_CLASSES for label in labels):
        raise ValueError(f"labels are whole numbers below {N_CLASSES}")
    return np.array(labels, dtype=np.int64)


class _Array:
    """Stands for an array or its type: keeps what a pickle says of it. An array itself trusts its pickle's bytes."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state


class _Encoded:
    """Bytes that Python 3 writes as text for Python 2."""

    def __new__(cls, text: str, encoding: str = "latin1") -> Any:
        """The bytes."""
        return text.encode("latin1" if encoding == "latin1" else "utf-8")

    def __setstate__(self, state: object) -> None:
        """Nothing is kept."""


_STAND_INS = {
    **dict.fromkeys(product(("numpy.core.multiarray", "numpy._core.multiarray"), ("_reconstruct",)), _Array),
    **dict.fromkeys(product(("numpy",), ("ndarray", "dtype")), _Array),
    ("_codecs", "encode"): _Encoded,
}

_OPERATIONS = """
PROTO FRAME STOP MARK POP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 INT
SHORT_BINSTRING BINSTRING SHORT_BINBYTES BINBYTES BINUNICODE SHORT_BINUNICODE
EMPTY_DICT EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
GLOBAL STACK_GLOBAL REDUCE BUILD PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET
"""
"""Of pickles, those that batches are made of."""


class _ArrayUnpickler(pickle._Unpickler):
    """Unpickler of arrays in plain containers; anything else is refused, so that no code runs and no memory is broken.

    In Python, because the one in C makes room for whatever index a pickle names; of few operations, and with texts for
    keys, because the hash of a tuple in a tuple in a tuple overflows the stack.
    """

    dispatch: ClassVar[dict[int, Any]] = {
        ord(code): pickle._Unpickler.dispatch[ord(code)]
        for code in (getattr(pickle, name) for name in _OPERATIONS.split())
    }

    def _set_item(self) -> None:
        _check_keys(self.stack[-2:-1])  # type: ignore[attr-defined]
        self.load_setitem()  # type: ignore[attr-defined]

    def _set_items(self) -> None:
        _check_keys(self.stack[::2])  # type: ignore[attr-defined]
        self.load_setitems()  # type: ignore[attr-defined]

    dispatch[ord(pickle.SETITEM)], dispatch[ord(pickle.SETITEMS)] = _set_item, _set_items

    def find_class(self, module: str, name: str) -> Any:
        """Stand-in of that name, when it is one that arrays need.

        Raises
        ------
        UnpicklingError
            When it is another one.
        """
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an array")
        return _STAND_INS[module, name]


def _check_keys(keys: list[object]) -> None:
    if not all(isinstance(key, str) for key in keys):
        raise pickle.UnpicklingError("keys of a batch are texts")
