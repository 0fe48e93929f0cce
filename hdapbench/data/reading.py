"""Decoding the files of a data set into the cache, and what files that cannot be read do."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hdapbench.data.kinds import shown
from hdapbench.data.source import Progress, read_each
from hdapbench.errors import DataError

Corrupt = Literal["fail", "skip"]
Decode = Literal["auto", "once", "live"]
Decoder = Callable[[str, bytes], NDArray[np.uint8]]
Pending = deque[tuple[str, int, Future[NDArray[np.uint8]]]]
"""Files in work: name, bytes and pixels."""

_MEMORY_ADDRESS = re.compile(r" <_io\.[^>]*>")
REPORT_EVERY = 5000
LIVE_BYTES = 20 * 2**30
AHEAD, AHEAD_BYTES = 8, 1 << 28
"""Files per worker, and bytes of them all, that are read ahead of the one that is waited for."""

SHOWN_NAMES = 5


@dataclass(frozen=True)
class Reading:
    """How the files of a data set are read.

    Attributes
    ----------
    source
        Folder or tar archive.
    input_shape
        Channels, height and width to decode to.
    corrupt
        Whether files that cannot be read end the run or are left out.
    on_progress
        Called with a line of text now and then.
    decode
        ``once`` keeps decoded images in the cache, ``live`` decodes them whenever they are needed, ``auto`` does the
        latter for folders of more than `LIVE_BYTES` decoded.
    """

    source: Path
    input_shape: tuple[int, int, int]
    corrupt: Corrupt = "fail"
    on_progress: Progress | None = None
    decode: Decode = "auto"

    def is_live(self, n_images: int) -> bool:
        """Whether so many images are decoded whenever they are needed, rather than once into the cache.

        Raises
        ------
        DataError
            When that is asked for and the source is an archive, which cannot be entered in the middle.
        """
        if self.decode == "live" and not self.source.is_dir():
            raise DataError(f"'{self.source}' is an archive; unpack it for data.decode: live")
        n_bytes = n_images * self.input_shape[0] * self.input_shape[1] * self.input_shape[2]
        return self.decode == "live" or (self.decode == "auto" and self.source.is_dir() and n_bytes > LIVE_BYTES)


class UnreadableError(Exception):
    """Some files of a data set cannot be read: name -> reason."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = dict(files)
        super().__init__(f"{len(files)} files")


def decode_each(
    reading: Reading, positions: Mapping[str, int], decode: Decoder
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Position and pixels of every file, in the order in which the source holds them.

    Raises
    ------
    UnreadableError
        At the end, with every file that could not be decoded.
    """
    broken: dict[str, str] = {}
    pending: Pending = deque()
    done = n_bytes = 0

    def finish_one() -> Iterator[tuple[int, NDArray[np.uint8]]]:
        nonlocal done, n_bytes
        name, size, future = pending.popleft()
        n_bytes -= size
        try:
            yield positions[name], future.result()
        except Exception as error:  # noqa: BLE001 - decoders raise whatever the bytes make them raise
            broken[name] = reason(error)
        if reading.on_progress is not None and done % REPORT_EVERY == 0:
            reading.on_progress(f"decoding {reading.source.name}: {done:,} of {len(positions):,} images")
        done += 1

    with ThreadPoolExecutor(n_workers()) as pool:
        for name, content in read_each(reading.source, positions):
            if isinstance(content, Exception):
                broken[name] = reason(content)
                continue
            pending.append((name, len(content), pool.submit(decode, name, content)))
            n_bytes += len(content)
            while pending and (len(pending) > AHEAD * n_workers() or n_bytes > AHEAD_BYTES):
                yield from finish_one()
        while pending:
            yield from finish_one()
    if broken:
        raise UnreadableError(dict(sorted(broken.items())))


def reason(error: Exception) -> str:
    """What is wrong with a file, on one short line."""
    return shown(_MEMORY_ADDRESS.sub("", " ".join(str(error).split()) or type(error).__name__))[:80]


def n_workers() -> int:
    """Threads that decode: one for each processor that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
