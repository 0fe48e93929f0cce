"""Trials one after another in this process: for debugging, and where nothing is gained by several."""

from __future__ import annotations

from collections.abc import Generator

from hdapbench.run.job import Job
from hdapbench.run.listener import Listener
from hdapbench.run.runner import Run
from hdapbench.run.supply import Supply
from hdapbench.run.waiting import Waits
from hdapbench.trial import Result


class Inline:
    """Carries out trials in this process."""

    def ended(self, job: Job, supply: Supply, listener: Listener) -> Generator[Result | Waits, None, None]:
        """What came of each trial of a supply, as it ends."""
        run = Run(
            job.loaded,
            job.registry,
            workspace=job.workspace,
            listener=listener,
            bases=job.bases,
            earlier=job.earlier.of,
        )
        yield from run.results(supply)
