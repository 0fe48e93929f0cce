"""Claims: which worker has which trial, so that any number of runs share a database and each trial is done once.

No wall clock is compared: clocks jump, and differ between machines. An owner of this host that no longer runs is known
by its process; any other by its beat, when that has not changed for a lease of the observer's own steady clock.
"""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hdapbench.store.connection import Connection

LEASE_SECONDS = 60.0
CHUNK = 500
"""Trials that are looked at together."""

APART = 64
"""How far from each other those go who want the same trials."""


@dataclass(frozen=True)
class Owner:
    """A worker that claims trials.

    Attributes
    ----------
    name
        Unique, also among workers of one process.
    host, pid
        Where it runs; equal hosts see each other's processes.
    started
        When the process started, by its host: a number of a process is given again. Empty where the host does not tell.
    """

    name: str
    host: str
    pid: int
    started: str

    @classmethod
    def here(cls) -> Owner:
        """A new worker of this process."""
        pid = os.getpid()
        return cls(f"{pid}-{secrets.token_hex(8)}", _this_host(), pid, _started(pid) or "")

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def is_known_dead(self) -> bool:
        """Whether it was a process of this host and no longer runs; False where this host cannot tell."""
        return self.host == _this_host() and self.started != "" and _started(self.pid) != self.started


@cache
def _this_host() -> str:
    """Name of this host, and what tells it from others of that name, from containers on it and from its last boot."""
    parts = [platform.node(), platform.system()]
    with suppress(OSError):  # there is no such file elsewhere than on Linux
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").readlink())]
    return f"{socket.gethostname()} ({hashlib.sha256(' '.join(parts).encode()).hexdigest()[:8]})"


def _started(pid: int) -> str | None:
    """When a process of this host started; None where it does not run, empty where the system does not tell."""
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]  # a zombie waits to be asked how it ended
    if sys.platform == "darwin":
        command = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None  # noqa: S603
    return ""


class Claims:
    """Claims of one worker, from `Store.claims`.

    Parameters
    ----------
    connection
        Of the store; `take`, `release` and `held_by_others` are called where it is used.
    whole
        Tells which of some trials have a result, failed ones too, and whether it is whole.
    owner
        Whose claims they are.
    lease_seconds
        How long an owner lives of which nothing is known but that its beat stands still.
    clock
        Seconds that never jump.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        whole: Callable[[Sequence[str]], Mapping[str, bool]],
        owner: Owner,
        lease_seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection, self._whole = connection, whole
        self.owner, self.lease_seconds, self._clock = owner, lease_seconds, clock
        self._seen: dict[str, tuple[str, int, float]] = {}
        self._known_ended: set[str] = set()
        self._without_result: set[str] = set()

    def take(self, trial_ids: Sequence[str], *, at_most: int = 1, again: Collection[str] = ()) -> tuple[str, ...]:
        """Claim the first of these that have no result and that nobody alive has claimed.

        What this worker has claimed is not given to it twice. Failed results count: name in ``again`` what is to be
        done although it has one.
        """
        wanted = [i for i in dict.fromkeys(trial_ids) if i in again or i not in self._known_ended]
        taken: list[str] = []
        for start in range(0, len(wanted), CHUNK):
            free = self._free(wanted[start : start + CHUNK], again)
            while free and len(taken) < at_most:
                taken += self._claim(free, at_most - len(taken), again)
            if len(taken) >= at_most:
                break
        return tuple(taken)

    def beat(self) -> None:
        """Show that this worker is alive. On a connection of its own: another thread may call it."""
        with closing(self._connection.another()) as connection, connection.writing():
            connection.execute("UPDATE claim SET beat = beat + 1 WHERE owner = ?", (self.owner.name,))

    def release(self, trial_ids: Iterable[str]) -> None:
        """Let others have what this worker has claimed; `Store.add` does it for results."""
        with self._connection.writing():
            release(self._connection, self.owner, trial_ids)

    def held_by_others(self, trial_ids: Sequence[str]) -> dict[str, str]:
        """Trial id -> who has claimed it, of those that somebody else has who is alive."""
        others = self._others(trial_ids)
        return {i: str(owner) for i, (owner, beat) in others.items() if not self._is_dead(i, owner, beat)}

    def _free(self, trial_ids: Sequence[str], again: Collection[str]) -> list[str]:
        """Those that seem free, in their order, with what has been ended now noted."""
        rows = self._rows(trial_ids)
        self._note_ended([i for i in trial_ids if i not in rows and i not in again])
        return [
            i
            for i in trial_ids
            if (i in again or i not in self._known_ended)
            and (i not in rows or (rows[i][0].name != self.owner.name and self._is_dead(i, *rows[i])))
        ]

    def _claim(self, free: list[str], at_most: int, again: Collection[str]) -> list[str]:
        """Those that this worker has now; what was tried goes from ``free``. Who comes too late goes elsewhere.

        Whoever ends a trial stores its result and gives back the claim in one transaction. So what is claimed first and
        looked up then is seen to have ended, if it has.
        """
        got: list[str] = []
        with self._connection.writing(is_durable=False):
            while free and len(got) < at_most:
                trial_id = free.pop(0)
                if self._connection.locks_now(f"claim {trial_id}") and self._insert(trial_id):
                    got.append(trial_id)
                elif len(free) > 1:  # others are at it from the same end
                    place = secrets.randbelow(min(len(free), APART))
                    free[0], free[place] = free[place], free[0]
            self._note_ended([i for i in got if i not in again])
            ended = {i for i in got if i in self._known_ended and i not in again}
            if ended:
                release(self._connection, self.owner, ended)
        return [i for i in got if i not in ended]

    def _note_ended(self, trial_ids: Sequence[str]) -> None:
        """Note which have a result. One that was there before this worker looked must be whole; later ones are new."""
        known = [i for i in trial_ids if i in self._without_result]
        if known:
            self._known_ended.update(i for (i,) in self._connection.rows_of("trial_id", "result", known))
        if unknown := [i for i in trial_ids if i not in self._without_result and i not in self._known_ended]:
            whole = self._whole(unknown)
            self._known_ended.update(i for i, is_whole in whole.items() if is_whole)
            self._without_result.update(i for i in unknown if i not in whole)

    def _insert(self, trial_id: str) -> bool:
        """Whether the claim is this worker's now: there was none, or still that of an owner seen to be dead."""
        me = self.owner
        owner, beat, _ = self._seen.get(trial_id, ("", 0, 0.0))
        done = self._connection.execute(
            "INSERT INTO claim (trial_id, owner, host, pid, started, beat) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (trial_id) DO UPDATE SET owner = excluded.owner, host = excluded.host,"
            " pid = excluded.pid, started = excluded.started, beat = excluded.beat"
            " WHERE claim.owner = ? AND claim.beat = ? RETURNING 1",
            (trial_id, me.name, me.host, me.pid, me.started, secrets.randbelow(2**48), owner, beat),
        )
        return done.fetchone() is not None

    def _is_dead(self, trial_id: str, owner: Owner, beat: int) -> bool:
        name, seen_beat, since = self._seen.get(trial_id, ("", 0, 0.0))
        if (name, seen_beat) != (owner.name, beat):
            since = self._clock()
            self._seen[trial_id] = (owner.name, beat, since)
        return owner.is_known_dead or self._clock() - since >= self.lease_seconds

    def _others(self, trial_ids: Sequence[str]) -> dict[str, tuple[Owner, int]]:
        return {i: held for i, held in self._rows(trial_ids).items() if held[0].name != self.owner.name}

    def _rows(self, trial_ids: Sequence[str]) -> dict[str, tuple[Owner, int]]:
        """Trial id -> owner and beat of its claim."""
        rows = self._connection.rows_of("trial_id, owner, host, pid, started, beat", "claim", trial_ids)
        return {i: (Owner(name, host, pid, started), beat) for i, name, host, pid, started, beat in rows}


def release(connection: Connection, owner: Owner, trial_ids: Iterable[str]) -> None:
    """Delete claims of an owner, within the caller's transaction."""
    for trial_id in sorted(trial_ids):
        connection.execute("DELETE FROM claim WHERE trial_id = ? AND owner = ?", (trial_id, owner.name))
