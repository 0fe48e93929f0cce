"""What studies work on: the workbench of a spec, with its base model trained or taken from a workspace's cache."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hdapbench.bench.workbench import Workbench
from hdapbench.data import DataSplits
from hdapbench.run.prepare import Preparation
from hdapbench.run.workspace import Workspace
from hdapbench.spec.loader import load
from hdapbench.trial import Result, Trial


class Quiet:
    """A run's listener that says which phase it is in."""

    def phase(self, text: str) -> None:
        """A step before the plans."""
        print(text, file=sys.stderr)

    def progress(self, text: str) -> None:
        """A line that nobody needs."""

    def started(self, trial: Trial) -> None:
        """No trials run."""

    def finished(self, result: Result) -> None:
        """No trials run."""


def open_bench(spec: Path, *, workspace: Path, overrides: Sequence[str] = ()) -> tuple[Workbench, DataSplits]:
    """Workbench of a spec's first fleet, and its data; ``overrides`` are KEY=VALUE, as of ``hdapbench run --set``."""
    loaded = load(spec, list(overrides))
    preparation = Preparation(loaded, Workspace(workspace), Quiet())
    return preparation.bench(loaded.spec.fleets[0].name), preparation.data
