"""Images that are decoded from their files whenever they are asked for: for sets too large to keep decoded."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdapbench.data.decode import decode_image
from hdapbench.data.reading import Reading, decode_each, n_workers
from hdapbench.errors import DamagedCacheError
from hdapbench.files import replacing

Item = TypeVar("Item")


class FileImages:
    """Images of a folder, indexed like a uint8 tensor of shape (n, channels, height, width).

    Parameters
    ----------
    source
        Folder that the names are relative to.
    names
        Files, in stored order.
    input_shape
        Channels, height and width to decode to.
    """

    def __init__(self, source: Path, names: Sequence[str], input_shape: tuple[int, int, int]) -> None:
        self._source, self._names, self._input_shape = source, names, input_shape

    @property
    def shape(self) -> torch.Size:
        """Images, channels, height and width."""
        return torch.Size((len(self._names), *self._input_shape))

    def __len__(self) -> int:
        return len(self._names)

    def part(self, chosen: slice) -> FileImages:
        """The images of a slice; nothing is decoded."""
        return FileImages(self._source, self._names[chosen], self._input_shape)

    def __getitem__(self, chosen: Tensor) -> Tensor:
        wanted = [self._names[number] for number in chosen.tolist()]
        images = list(self._pool.map(self._decoded, wanted))
        return torch.from_numpy(np.stack(images))

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(n_workers(), thread_name_prefix="decode")

    def _decoded(self, name: str) -> NDArray[np.uint8]:
        with (self._source / name).open("rb") as stream:
            return decode_image(stream, self._input_shape)


@dataclass(frozen=True)
class Listing:
    """Files of a part in stored order, numbers and names of their classes, and SHA-256 over names, classes, contents.

    ``skipped`` maps files that were left out to the reason, ``left_out`` kinds of files beside them to their number.
    """

    names: list[str]
    labels: list[int]
    classes: list[str]
    digest: str = ""
    skipped: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)


def read_listing(path: Path) -> Listing | None:
    """Listing of a file, or None when it is not there.

    Raises
    ------
    DamagedCacheError
        When it is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        checksum = found.pop("checksum", None)
        listing = Listing(**found)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedCacheError(f"the cache '{path}' is damaged: {error}") from error
    if checksum not in (None, _checksum(listing)):
        raise DamagedCacheError(f"the cache '{path}' is damaged: its content is not what was stored")
    return listing


def _checksum(listing: Listing) -> str:
    return hashlib.sha256(json.dumps(asdict(listing), sort_keys=True).encode()).hexdigest()


def write_listing(path: Path, reading: Reading, listing: Listing) -> None:
    """Check that every file of a listing can be decoded, hash it, and write the listing in one step.

    Raises
    ------
    UnreadableError
        With every file that cannot be decoded.
    """

    def checked(_name: str, content: bytes) -> NDArray[np.uint8]:
        decode_image(BytesIO(content), reading.input_shape)
        return np.frombuffer(hashlib.sha256(content).digest(), dtype=np.uint8)

    hashes = dict(decode_each(reading, {name: number for number, name in enumerate(listing.names)}, checked))
    digest = hashlib.sha256()
    for number, (name, label) in enumerate(zip(listing.names, listing.labels, strict=True)):
        digest.update(os.fsencode(f"{name}|{label}|") + hashes[number].tobytes())
    listing = replace(listing, digest=digest.hexdigest())
    with replacing(path) as partial:
        content = asdict(listing) | {"checksum": _checksum(listing)}
        partial.write_text(json.dumps(content), encoding="utf-8")


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each made in the background while the one before is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item
