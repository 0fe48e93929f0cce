"""Attacks, each in a process of its own: what came of them, and how that is judged."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hdapbench.files import is_left_over

MOST_MIB = 1024
"""Memory of a process, what it shares with the one that started it included."""

MARKER = "ran"
"""File that code of an attacker makes where it is run."""

UNFORESEEN = ("Traceback (most recent call last)", "all of it with: hdapbench --debug")
"""What users see of errors that nobody foresaw."""

OUTCOMES = ("right", "traceback", "silent", "other")


@dataclass(frozen=True)
class Attack:
    """Something that is tried.

    Attributes
    ----------
    fault
        Row of the table that it counts in.
    name
        What is tried, for whoever repeats it.
    do
        Carries it out in an empty folder; what it returns says what is wrong with a number or an answer, None nothing.
    seconds
        After which it counts as hanging.
    leaves
        Whether it leaves processes or unfinished files behind by what it is.
    n
        Inputs that it tries one after another; it ends with the first that does not end right.
    """

    fault: str
    name: str
    do: Callable[[], str | None]
    seconds: float = 1800.0
    leaves: bool = False
    n: int = 1


@dataclass(frozen=True)
class Fate:
    """What came of an attack: one of `OUTCOMES`, and why it is not right."""

    attack: Attack
    outcome: str
    why: str = ""


@dataclass
class _Child:
    attack: Attack
    folder: Path
    pid: int
    deadline: float
    mib_before: float
    timed_out: bool = field(default=False)


def fates(attacks: Iterable[Attack], *, jobs: int = 1) -> Iterator[Fate]:
    """Fate of each attack as soon as it is known, ``jobs`` at a time."""
    waiting, running = iter(attacks), dict[int, _Child]()
    while True:
        while len(running) < jobs and (attack := next(waiting, None)) is not None:
            child = _started(attack)
            running[child.pid] = child
        if not running:
            return
        ended = [pid for pid in running if (found := os.wait4(pid, os.WNOHANG))[0] and not _ends.update({pid: found})]
        for pid in ended:
            child = running.pop(pid)
            _, status, usage = _ends.pop(pid)
            yield _judged(child, status, usage)
            shutil.rmtree(child.folder, ignore_errors=True)
        for child in running.values():
            if time.monotonic() > child.deadline and not child.timed_out:
                child.timed_out = True
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
        if not ended:
            time.sleep(0.002)


_ends: dict[int, tuple[int, int, resource.struct_rusage]] = {}


def _started(attack: Attack) -> _Child:
    folder = Path(tempfile.mkdtemp(prefix="hdapbench-attack-"))
    sys.stdout.flush()
    sys.stderr.flush()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pid = os.fork()
    if pid == 0:
        _carry_out(attack, folder)
    return _Child(attack, folder, pid, time.monotonic() + attack.seconds, before)


def _carry_out(attack: Attack, folder: Path) -> None:
    """In the child: everything that it writes goes to files; it ends here."""
    code = 1
    try:
        os.setpgid(0, 0)
        for number, name in ((0, os.devnull), (1, folder / "stdout"), (2, folder / "stderr")):
            handle = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
            os.dup2(handle, number)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in ((0, "r"), (1, "w"), (2, "w")))
        (folder / "here").mkdir()
        os.chdir(folder / "here")
        said = attack.do()
        (folder / "answer").write_text(json.dumps(said))
        code = 0
    except BaseException:
        (folder / "error").write_text(traceback.format_exc())
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _judged(child: _Child, status: int, usage: resource.struct_rusage) -> Fate:
    attack, folder = child.attack, child.folder
    said = "".join((folder / name).read_text(errors="replace") for name in ("stdout", "stderr"))
    mib = usage.ru_maxrss / 1024
    if mib <= child.mib_before:  # it began with what this process holds
        mib = 0.0
    stays = _group_of(child.pid)
    with suppress(ProcessLookupError):  # what it started and left behind
        os.killpg(child.pid, signal.SIGKILL)
    wrong = _unsound(child, status, mib) or _unforeseen(folder, said) or _left(child, stays)
    if wrong is not None:
        return Fate(attack, *wrong)
    if "\x1b" in said:
        return Fate(attack, "other", "an escape reaches the terminal")
    answer = folder / "answer"
    if not answer.exists():
        return Fate(attack, "other", f"ended with {os.waitstatus_to_exitcode(status)}, without a word")
    why = json.loads(answer.read_text())
    return Fate(attack, "right") if why is None else Fate(attack, "silent", why)


def _unsound(child: _Child, status: int, mib: float) -> tuple[str, str] | None:
    if child.timed_out:
        return "other", f"not ended after {child.attack.seconds:g} s"
    if os.WIFSIGNALED(status):
        return "other", f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
    if (child.folder / "here" / MARKER).exists():
        return "other", "code ran"
    return ("other", f"{mib:.0f} MiB") if mib > MOST_MIB else None


def _left(child: _Child, stays: list[str]) -> tuple[str, str] | None:
    """Processes that go on, and unfinished files of those that ended."""
    if child.attack.leaves:
        return None
    if stays:
        return "other", f"still running: {', '.join(stays)}"
    left = [path.name for path in (child.folder / "here").rglob(".*") if is_left_over(path)]
    return ("other", f"left behind: {', '.join(left[:3])}") if left else None


def _group_of(number: int) -> list[str]:
    """Names of the living processes of a group."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = place.read_text().partition("(")[2].rpartition(")")
            state, _, group = rest.split()[:3]
            if int(group) == number and state not in "ZX":
                found.append(name)
    return found


def _unforeseen(folder: Path, said: str) -> tuple[str, str] | None:
    error = folder / "error"
    if error.exists():
        return "traceback", error.read_text().strip().splitlines()[-1][:300]
    if any(text in said for text in UNFORESEEN):
        return "traceback", said.strip().splitlines()[-1][:300]
    return None


def counted(found: Iterable[Fate]) -> dict[str, Counter[str]]:
    """Fault -> how many attacks had each outcome."""
    rows: dict[str, Counter[str]] = {}
    for fate in found:
        row = rows.setdefault(fate.attack.fault, Counter())
        row["right"] += fate.attack.n - 1
        row[fate.outcome] += 1
    return rows
