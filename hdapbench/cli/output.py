"""Where results go: the standard streams, which carry only what is printable, and files that the user names."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from hdapbench.errors import OutputError, printable
from hdapbench.files import replacing

if TYPE_CHECKING:
    from rich.console import Console


class Output:
    """A stream that whoever reads it may close: what comes later is dropped.

    Parameters
    ----------
    stream
        What is written to.
    is_result
        Whether other errors matter; progress is no result, and may be lost.
    """

    def __init__(self, stream: TextIO, *, is_result: bool) -> None:
        self._stream, self._is_result = stream, is_result
        self.is_broken = False

    def write(self, text: str) -> int:
        """Write a text as it is."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Write what is kept back."""
        self._try("flush")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, action: str, *arguments: str) -> None:
        if self.is_broken:
            return
        try:
            getattr(self._stream, action)(*arguments)
        except (OSError, ValueError) as error:  # ValueError: a plug-in closed it
            self.is_broken = True
            if self._is_result and not isinstance(error, BrokenPipeError):
                raise


class PrintableOutput(Output):
    """The same for texts of anybody: control characters, such as those that move a terminal's cursor, are escaped."""

    def __init__(self, raw: Output, *, is_result: bool) -> None:
        super().__init__(cast("TextIO", raw), is_result=is_result)
        self.raw = raw

    def write(self, text: str) -> int:
        """Write a text, line breaks as they are."""
        self._try("write", "\n".join(map(printable, text.split("\n"))))
        return len(text)


@contextmanager
def standard_streams() -> Iterator[None]:
    """Standard output and error carry printable text alone, with "?" for characters that they cannot encode.

    Raises
    ------
    OutputError
        When standard output does not take what was written to it.
    """
    _open_standard_files()
    former = sys.stdout, sys.stderr
    outputs = []
    for stream, is_result in zip(former, (True, False), strict=True):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
        outputs.append(Output(stream or _nowhere(), is_result=is_result))
    sys.stdout, sys.stderr = (
        cast("TextIO", PrintableOutput(output, is_result=is_result))
        for output, is_result in zip(outputs, (True, False), strict=True)
    )
    try:
        yield
        outputs[0].flush()
    except OSError as error:
        if not outputs[0].is_broken:
            raise
        raise OutputError(f"standard output cannot be written: {error.strerror}") from error
    finally:
        outputs[1].flush()
        sys.stdout, sys.stderr = former
        for output in outputs:
            if output.is_broken:
                _forget_what_is_kept_back(output)


def raw(stream: TextIO) -> TextIO:
    """The stream for what is meant to move the cursor or to be coloured; texts of others need `printable` there."""
    return cast("TextIO", stream.raw) if isinstance(stream, PrintableOutput) else stream


def console(*, width: int) -> Console:
    """Console on standard output, of that width where it is no terminal."""
    from rich.console import Console

    found = Console(file=raw(sys.stdout))
    return found if found.is_terminal else Console(file=raw(sys.stdout), width=width)


def check_output(path: Path) -> None:
    """Find out, before anything is spent, that a file cannot be written.

    Raises
    ------
    OutputError
        When it is a folder, or nobody may write there.
    """
    if path.is_dir():
        raise OutputError(f"'{path}' is a folder; name a file in it")
    if path.exists():
        place = path if not path.is_file() or not os.access(path, os.W_OK) else path.resolve().parent
    else:
        place = next(folder for folder in path.absolute().parents if folder.exists() or folder.is_symlink())
        if not place.is_dir():
            raise OutputError(f"'{path}' cannot be written: '{place}' is no folder; name another file")
    if not os.access(place, os.W_OK):
        raise OutputError(f"'{path}' cannot be written: '{place}' is read-only for you; name another file")


def write_output(path: Path, content: str | bytes) -> None:
    """Write a file that the user named, whole or not at all.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    check_output(path)
    try:
        with replacing(path) as partial:
            partial.write_bytes(content.encode("utf-8", "replace") if isinstance(content, str) else content)
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: {error.strerror}; name another file") from error


def _open_standard_files() -> None:
    """Open what was closed for us: else the next file that is opened, a database perhaps, is written to by prints."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def _forget_what_is_kept_back(output: Output) -> None:
    """Let the interpreter write the rest to nowhere when it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, output.fileno())
        os.close(nowhere)
