"""Workspace: the folder of everything that a run leaves behind."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hdapbench.files import remove_kept
from hdapbench.store.place import VARIABLE, Place

DATABASE = "results.db"
DEFAULT = Path(".hdapbench")


@dataclass(frozen=True)
class Workspace:
    """Folder of everything that a run leaves behind, by default ``.hdapbench`` in the current directory."""

    root: Path
    store: Place | None = None
    """Database of results, where it is another than the folder's."""

    @property
    def cache(self) -> Path:
        """Decoded data, trained base models, weights handed over by methods."""
        return self.root / "cache"

    @property
    def checkpoints(self) -> Path:
        """Long trainings under way: a folder per trial, or ``base-<hash>``; empty while nothing runs."""
        return self.cache / "checkpoints"

    def forget(self, trial_id: str) -> None:
        """Remove what is kept of a trial's trainings: its result is stored."""
        remove_kept(self.checkpoints / trial_id)

    @property
    def artifacts(self) -> Path:
        """Plan and weights of each completed trial, one folder per trial id."""
        return self.root / "artifacts"

    @property
    def deaths(self) -> Path:
        """Trials in whose methods the process is, or died; empty while nothing runs."""
        return self.root / "running"

    @property
    def wanted(self) -> Path:
        """Plans that recorded fleets lack, one file per benchmark."""
        return self.root / "wanted"

    @property
    def database(self) -> Place:
        """The results database."""
        return self.root / DATABASE if self.store is None else self.store

    @property
    def words(self) -> list[str]:
        """Options that name it on a command line, without a password."""
        words = [] if self.root == DEFAULT else ["--workspace", str(self.root)]
        is_said = self.store is None or VARIABLE in os.environ
        return words if is_said else [*words, "--store", str(self.store)]
