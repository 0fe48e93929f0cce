"""Deaths: methods in which the process ended without a word are not asked for ever."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hdapbench.errors import MethodError

MOST_DEATHS = 2


@contextmanager
def counted(path: Path, say: Callable[[str], object] = lambda _: None) -> Iterator[None]:
    """Note in a file that the block is running, for as long as it does.

    Parameters
    ----------
    path
        One line per process that is or was in the block and did not leave it.
    say
        Told when a process died in it before and it is tried once more.

    Raises
    ------
    MethodError
        When processes died in it twice; the count begins anew then.
    """
    own = os.getpid()
    before = path.read_text().split() if path.is_file() else []
    dead = [process for process in before if process == str(own) or not _is_alive(process)]  # containers reuse numbers
    if len(dead) >= MOST_DEATHS:
        path.unlink(missing_ok=True)
        raise MethodError(
            f"the process ended {len(dead)} times while this method ran: it left by os._exit, crashed, or was killed, "
            "for want of memory perhaps"
        )
    if dead:
        say("an earlier run ended while this method ran; it is asked once more")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        stream.write(f"{own}\n")
    try:
        yield
    finally:
        if os.getpid() != own:
            os._exit(1)  # a copy of this process that the block made and let go on: one is enough
        path.unlink(missing_ok=True)


def _is_alive(process: str) -> bool:
    """Whether a process of this machine runs; on Windows, where asking would end it, none counts as alive."""
    if os.name != "posix":
        return False
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True
