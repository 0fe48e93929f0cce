"""Plans that trials wait for: asked of a recorded fleet that lacks them, to be measured on its boards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdapbench.errors import FleetError
from hdapbench.files import replacing
from hdapbench.run.listener import Listener
from hdapbench.trial import Result, Trial

Wanted = dict[str, dict[str, tuple[int, ...]]]
"""Fleet -> name of each plan -> channels of each group."""


@dataclass(frozen=True)
class Waits:
    """What came of a trial whose recorded fleet lacks plans: those, to be measured."""

    trial: Trial
    lacking: Wanted


class Waiting:
    """Trials of one run that wait, and the plans that they wait for, noted at once in a file.

    Parameters
    ----------
    path
        The file; what it held before goes when the first plans are noted, or none are.
    source
        The spec, as messages call it.
    """

    def __init__(self, path: Path, *, source: str) -> None:
        self._path, self._source = path, source
        self._n_trials, self._wanted = 0, Wanted()

    def added(self, trial: Trial, lacking: Mapping[str, Mapping[str, tuple[int, ...]]]) -> str:
        """What to say of a trial that waits."""
        self._n_trials += 1
        for fleet, plans in lacking.items():
            self._wanted.setdefault(fleet, {}).update(plans)
        with replacing(self._path) as partial:
            partial.write_text(json.dumps(self._wanted))
        n_plans = sum(map(len, lacking.values()))
        return f"{trial} waits for {n_plans} plans that fleet '{trial.fleet}' has not recorded"

    def end(self) -> None:
        """Say how to go on where a trial waits.

        Raises
        ------
        FleetError
            When a trial waits.
        """
        if not self._wanted:
            self._path.unlink(missing_ok=True)
            return
        n_plans = sum(map(len, self._wanted.values()))
        raise FleetError(
            f"{self._n_trials} trials wait for {n_plans} plans that {', '.join(map(repr, self._wanted))} has not "
            f"recorded; the others are stored. Go on with: hdapbench fleet ask {self._source} -o job.zip"
        )


def results_alone(ended: Iterable[Result | Waits], waiting: Waiting, listener: Listener) -> Iterator[Result]:
    """Results of trials; those that wait are noted, and told at the end.

    Raises
    ------
    FleetError
        At the end, when a trial waits.
    """
    for one in ended:
        if isinstance(one, Waits):
            listener.phase(waiting.added(one.trial, one.lacking))
        else:
            yield one
    waiting.end()


def read_wanted(path: Path) -> Wanted:
    """Plans that the latest run noted; none where it noted none.

    Raises
    ------
    FleetError
        When the file is not what a run writes.
    """
    if not path.exists():
        return {}
    try:
        content: Any = json.loads(path.read_text())
        return {
            fleet: {str(plan): tuple(map(int, widths)) for plan, widths in plans.items()}
            for fleet, plans in content.items()
        }
    except (ValueError, TypeError, AttributeError, RecursionError, OSError):
        raise FleetError(f"'{path}' is damaged; remove it, and run the spec again") from None
