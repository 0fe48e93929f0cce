"""Results of trials that differ in their recording alone. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from functools import cached_property

from hdapbench.errors import StoreError
from hdapbench.spec import RecordedFleetSpec, Spec, parse_target
from hdapbench.store.place import Place
from hdapbench.store.sqlite import open_store
from hdapbench.trial import DENSE, SCORED_AGAIN, Result, Status, Trial


class EarlierResults:
    """Results on earlier recordings of a spec's recorded fleets: their plans are scored again, and not found again.

    Parameters
    ----------
    spec
        The spec; only trials on its recorded fleets have earlier results.
    database
        Where they are stored.
    rerun
        Trials that are run though they are stored: they get new plans.
    """

    def __init__(self, spec: Spec, database: Place, *, rerun: Collection[str]) -> None:
        self._recorded = {fleet.name for fleet in spec.fleets if isinstance(fleet, RecordedFleetSpec)}
        self._database, self._rerun = database, rerun

    def of(self, trial: Trial) -> Result | None:
        """The result that a trial had on an earlier recording; None where it has to be carried out.

        The dense model is always measured anew, and under a limit on latency another recording is another limit.
        """
        if trial.fleet not in self._recorded or trial.method == DENSE or trial.id in self._rerun:
            return None
        if trial.target is not None and "latency" in parse_target(trial.target).kinds:
            return None
        return self._results.get(_apart_from_fleet(trial))

    @cached_property
    def _results(self) -> dict[str, Result]:
        if not self._recorded or not self._database.exists():
            return {}
        with open_store(self._database) as store:
            results = []
            for trial_id in sorted(store.finished(sorted(store.trial_ids()))):
                with suppress(StoreError):  # of a newer version
                    results += [result for result in store.results(trial_ids=[trial_id]) if _is_measured(result)]
        results.sort(key=lambda result: SCORED_AGAIN not in result.notes)  # a plan's own trial comes last, and counts
        return {_apart_from_fleet(result.trial): result for result in results}


def _is_measured(result: Result) -> bool:
    metrics = result.metrics
    return result.status is Status.COMPLETE and metrics is not None and metrics.latency_source == "measured"


def _apart_from_fleet(trial: Trial) -> str:
    """Id of a trial as if the fleet did not count; trials on this host's own devices still name the host."""
    return trial.model_copy(update={"fleet_hash": ""}).id
