"""Paths as specs write them, and files that are written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import shutil
import stat
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

from hdapbench.errors import DataError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
try:
    import msvcrt
except ImportError:  # all others
    msvcrt = None  # type: ignore[assignment]

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")
_MARK = re.compile(r"\.(?P<process>\d+)(?:@(?P<host>[0-9a-f]{6}))?-")
_DAY = 24 * 60 * 60

FREE_BYTES, MOST_EXPANSION = 1 << 28, 4
"""A zip of more than `FREE_BYTES` unpacked may be so many times its size: torch packs nothing, numbers pack badly."""


def expand_path(text: str) -> Path:
    """Path with environment variables and the home directory filled in.

    Parameters
    ----------
    text
        May hold ``~``, ``${NAME}`` or ``${NAME:-default}``.

    Raises
    ------
    DataError
        When a variable without a default is not set.
    """

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match["name"]) or match["default"]
        if found is None:
            raise DataError(f"'{text}': the environment variable {match['name']} is not set; set it to a folder")
        return found

    return Path(_VARIABLE.sub(value, text)).expanduser()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Path to write a file to, which takes the place of ``path`` when the block ends without an error.

    Readers see the old file or the new one, never a part, even when the machine stops; after an error the old one stays
    and nothing is left beside it. The folder is made where it is missing, a link is followed, and what is no file, such
    as ``/dev/stdout``, is written to as it is.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{process_mark()}{path.name}")  # the suffix stays: writers look at it
    try:
        yield partial
        flush_to_disk(partial)
        partial.replace(path)
        with suppress(OSError):
            flush_to_disk(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def remove_kept(folder: Path) -> None:
    """Remove a folder with what is in it, and the one around it when that holds nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # others are kept there, or nothing ever was
        folder.parent.rmdir()


def expands_beyond_reason(archive: Path | bytes) -> bool:
    """Whether a zip, as torch's files are, unpacks to far more than it is; False for what is no zip."""
    n_bytes = len(archive) if isinstance(archive, bytes) else archive.stat().st_size
    try:
        with zipfile.ZipFile(BytesIO(archive) if isinstance(archive, bytes) else archive) as file:
            n_unpacked = sum(member.file_size for member in file.infolist())
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False
    return n_unpacked > max(FREE_BYTES, MOST_EXPANSION * n_bytes)


@contextmanager
def locked(path: Path, on_wait: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Let one process after the other into the block. The lock goes with the process, however that ends.

    Parameters
    ----------
    path
        File that stands for what is locked; it is made, and stays.
    on_wait
        Called when another process is in the block.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        if not _try_lock(stream.fileno()):
            on_wait()
            while not _try_lock(stream.fileno()):
                time.sleep(0.1)
        yield


def _try_lock(handle: int) -> bool:
    """Whether the lock on a file is had now; it is said to be where the file system knows no locks."""
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
    return True


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk.

    Raises
    ------
    OSError
        When they cannot be written, such as on a full disk.
    """
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)  # Windows flushes what may be written
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system without fsync
            raise
    finally:
        os.close(handle)


def process_mark() -> str:
    """What names of unfinished files and folders begin with: whose process writes them, and on which host."""
    return f".{os.getpid()}@{_host()}-"


def sweep_leftovers(folder: Path) -> int:
    """Number of unfinished files and folders of dead processes of this host that were found under a folder, removed."""
    n_swept = 0
    for place, folders, files in os.walk(folder):
        for name in [name for name in (*folders, *files) if is_left_over(Path(place, name))]:
            path = Path(place, name)
            if name in folders:
                folders.remove(name)
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            n_swept += 1
    return n_swept


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits.

    Raises
    ------
    OSError
        When it cannot be read, or is a pipe, a device or a socket: these may never end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_left_over(path: Path) -> bool:
    """Whether an unfinished file or folder is that of a dead process of this host."""
    mark = _MARK.match(path.name)
    if mark is not None:
        return mark["host"] in (None, _host()) and not _is_alive(int(mark["process"]))
    # Versions before these marks named no process: what nobody touched for a day is nobody's any more.
    return ".partial" in path.name and path.exists() and time.time() - path.stat().st_mtime > _DAY


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # where asking would interrupt it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]
