"""Checkpoints: long trainings are kept while they last, and go on to the same bits after whatever ended them."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from hdapbench.files import expands_beyond_reason, remove_kept, replacing

EPOCH_SECONDS = 30.0
"""A training is kept at the end of an epoch when so much time has passed since it began or was kept."""

SECONDS = 300.0
"""A training is kept within an epoch when so much time has passed."""

MOST_SHARE = 0.02
"""Share of a training's time that is spent on keeping it: large networks are kept less often."""

SUFFIX = ".ckpt"
_HASH_BYTES = 32


class Checkpoints:
    """States of trainings under way: a folder per owner, such as a trial, and a file for each of its trainings.

    Trainings that are over within seconds leave nothing. A long one is kept in its last state too, until its owner is
    forgotten: what comes after the training can be ended as well. Processes that do the same thing write the same
    states, each whole or not at all, and any of them can be gone on from.

    Parameters
    ----------
    folder
        Where files are kept.
    say
        Told when a training goes on, or why it begins anew.
    """

    def __init__(self, folder: Path, say: Callable[[str], object] = lambda _: None) -> None:
        self._folder, self._say = folder, say
        self._owner: str | None = None
        self._n_trainings = 0

    @contextmanager
    def of(self, owner: str) -> Iterator[None]:
        """Trainings in the block belong to an owner, whose name says all that they depend on; others are not kept."""
        before = self._owner, self._n_trainings
        self._owner, self._n_trainings = owner, 0
        try:
            yield
        finally:
            self._owner, self._n_trainings = before

    def next(self, about: Mapping[str, Any]) -> Checkpoint | None:
        """Where the owner's next training is kept; None for trainings without an owner.

        Parameters
        ----------
        about
            What the training depends on: a state of another one is not gone on from.
        """
        if self._owner is None:
            return None
        path = self._folder / self._owner / f"{self._n_trainings}{SUFFIX}"
        self._n_trainings += 1
        return Checkpoint(path, {**about, **made_by()}, self._say)

    def forget(self, owner: str) -> None:
        """Remove what is kept of an owner, whose work is done and stored."""
        remove_kept(self._folder / owner)


class Checkpoint:
    """State of one training, and when it is to be kept next."""

    def __init__(self, path: Path, about: Mapping[str, Any], say: Callable[[str], object]) -> None:
        self._path, self._about, self.say = path, dict(about), say
        self._last = time.monotonic()
        self._cost = 0.0
        self._told = False

    def read(self) -> dict[str, Any] | None:
        """State that was kept; None where there is none, or none of this training, which is said."""
        try:
            content = self._path.read_bytes()
        except OSError:
            return None
        found = _loaded(content)
        if found is None:
            self.say(f"the checkpoint '{self._path}' is damaged: the training begins anew")
            return None
        differing = [key for key, value in self._about.items() if found["about"].get(key) != value]
        if differing:
            what = ", ".join(sorted(differing))
            self.say(f"the checkpoint '{self._path}' is of another training ({what}), which begins anew")
            return None
        state: dict[str, Any] = found["state"]
        return state

    def is_due(self, *, epoch_ended: bool = False) -> bool:
        """Whether the training has gone on for so long that it is to be kept."""
        interval = EPOCH_SECONDS if epoch_ended else SECONDS
        return time.monotonic() - self._last >= max(interval, self._cost / MOST_SHARE)

    def write(self, state: Mapping[str, Any]) -> None:
        """Keep a state in place of the one before. A disk that is full is said, once, and ends no training."""
        started = time.monotonic()
        buffer = BytesIO()
        torch.save({"about": self._about, "state": dict(state)}, buffer)
        try:
            with replacing(self._path) as partial, partial.open("wb") as stream:
                stream.write(hashlib.sha256(buffer.getbuffer()).digest())
                stream.write(buffer.getbuffer())
        except OSError as error:
            if not self._told:
                self._told = True
                self.say(f"the checkpoint '{self._path}' cannot be written ({error.strerror or error}); it goes on")
        self._last = time.monotonic()
        self._cost = self._last - started


def _loaded(content: bytes) -> dict[str, Any] | None:
    """Content of a file that was written whole, read without running code; None of others."""
    digest, kept = content[:_HASH_BYTES], content[_HASH_BYTES:]
    if hashlib.sha256(kept).digest() != digest or expands_beyond_reason(kept):
        return None
    try:
        found = torch.load(BytesIO(kept), map_location="cpu", weights_only=True)
        return found if {"about", "state"} <= found.keys() else None
    except Exception:  # noqa: BLE001 - torch.load raises whatever the bytes make it raise
        return None


def made_by() -> dict[str, Any]:
    """What decides, beside a training's own inputs, which bits it comes to."""
    return {
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "code": _code(),
    }


@cache
def _code() -> str:
    """Hash of the modules that train."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
