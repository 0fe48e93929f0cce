"""What studies take from the framework's own runs: benches and stored results of specs, and what commands say."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from hdapbench.bench.workbench import Workbench
from hdapbench.cli.main import main as hdapbench
from hdapbench.data import DataSplits
from hdapbench.method.registry import MethodRegistry
from hdapbench.run.grid import plan_trials
from hdapbench.run.prepare import Preparation
from hdapbench.run.workspace import Workspace
from hdapbench.spec import LoadedSpec, load
from hdapbench.store.sqlite import open_store
from hdapbench.trial import Result, Trial

ROOT = Path(__file__).parents[1]


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


def open_bench(spec: str, *, workspace: Path, overrides: Sequence[str] = ()) -> tuple[Workbench, DataSplits]:
    """Workbench of a spec's first fleet, and its data; the base model is trained, or taken from the workspace's cache.

    ``spec`` is a name in specs/; ``overrides`` are KEY=VALUE, as of ``hdapbench run --set``.
    """
    os.environ.setdefault("HDAPBENCH_DATA", str(ROOT.parent / "shared" / "data"))
    loaded = load(ROOT / "specs" / f"{spec}.yaml", list(overrides))
    preparation = Preparation(loaded, Workspace(workspace), Quiet())
    return preparation.bench(loaded.spec.fleets[0].name), preparation.data


def stored(spec: str, workspace: Path) -> tuple[LoadedSpec, list[Result]]:
    """A spec file, and what its runs stored in a workspace."""
    loaded = load(spec)
    ids = [trial.id for trial in plan_trials(loaded, MethodRegistry())]
    with open_store(workspace / "results.db") as store:
        return loaded, list(store.results(trial_ids=ids))


def said(*command: str) -> dict[str, Any]:
    """What a command of hdapbench prints with ``--json``."""
    text = io.StringIO()
    with redirect_stdout(text):
        status = hdapbench([*command, "--json"])
    if status:
        raise SystemExit(status)
    return dict(json.loads(text.getvalue()))
