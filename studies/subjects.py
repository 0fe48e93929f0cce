"""What studies work on: the workbench of a spec, with its base model trained or taken from a workspace's cache."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hdapbench.bench.workbench import Workbench
from hdapbench.method.registry import MethodRegistry
from hdapbench.run.runner import Run, Workspace
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


def open_bench(spec: Path, *, workspace: Path, overrides: Sequence[str] = ()) -> Workbench:
    """Workbench of a spec's first fleet; ``overrides`` are KEY=VALUE, as of ``hdapbench run --set``."""
    loaded = load(spec, list(overrides))
    run = Run(loaded, MethodRegistry(), workspace=Workspace(workspace), listener=Quiet())
    return run.bench(loaded.spec.fleets[0].name)
