"""What differs between stored trials and those that a spec has now, in lines for readers. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hdapbench.errors import StoreError
from hdapbench.run.listener import duration
from hdapbench.spec import FleetSpec, Spec
from hdapbench.store.sqlite import Store
from hdapbench.trial import Result, Trial

CONTENT = "sha256:"
SOURCES = {
    "program": "how this version of hdapbench computes",
    "model": "the model's code",
    "data set": "the code of the data set",
    "images": "the content of data.path",
    "fleet's kind": "the code of the fleet's kind",
    "host": "the host",
}
COMMON = ("model", "task", "data", "base", "fine_tune", "budget", "threads", "device")
"""Keys of a spec that bear on all its trials."""


def changes(before: Mapping[str, Any], results: Sequence[Result], spec: Spec, trials: Sequence[Trial]) -> list[str]:
    """What changed since results were stored, one line each; nothing where only trials were added.

    Parameters
    ----------
    before
        The spec that the results were registered with.
    results
        What is stored of its trials.
    spec, trials
        What it is now, fleets named by content.
    """
    now = spec.model_dump(mode="json")
    lines = [line for key in COMMON for line in differences(before.get(key), now.get(key), key)]
    stored = [result.trial for result in results]
    if not lines and {trial.context for trial in stored} - {trial.context for trial in trials}:
        lines.append("the content of model.weights" + (" or of the teacher's" if spec.base.teacher else ""))
    fleets = {fleet["name"]: fleet for fleet in before.get("fleets", [])}
    for fleet in spec.fleets:
        if fleet.name in fleets:
            lines += differences(fleets[fleet.name], _plain(fleet), f"fleets.{fleet.name}")
    return list(dict.fromkeys([*lines, *changed_code(stored, trials)]))


def changed_code(stored: Sequence[Trial], trials: Sequence[Trial]) -> list[str]:
    """What differs of the code, images and hosts that trials name by content."""
    lines = list(_changed_sources(stored, trials))
    codes = {trial.method: trial.code for trial in stored}
    lines += [f"the code of {t.method}" for t in trials if t.method in codes and codes[t.method] != t.code]
    return list(dict.fromkeys(lines))


@dataclass(frozen=True)
class Redone:
    """Trials that are stored under other ids, and have to be made again.

    Attributes
    ----------
    n_trials
        How many.
    seconds
        What they took.
    why
        What they depend on that has changed, one line each.
    """

    n_trials: int = 0
    seconds: float = 0.0
    why: tuple[str, ...] = ()

    def said(self, n_all: int) -> list[str]:
        """Lines for readers; none where nothing is made again."""
        if not self.n_trials:
            return []
        took = "" if self.seconds < 1 else f" (they took {duration(self.seconds)})"
        what = f"{self.n_trials} of {n_all} trials were stored{took}, and are made again"
        return [f"{what} because what they depend on has changed:", *(f"  {line}" for line in self.why)]


def redone(store: Store, spec: Spec, trials: Sequence[Trial]) -> Redone:
    """Stored trials of the benchmark that have to be made again under other ids, and why; most often none.

    Parameters
    ----------
    store
        What was stored before this spec is registered.
    spec, trials
        The spec as it is now, fleets named by content, and its trials.
    """
    if spec.name not in store.benchmarks():
        return Redone()
    try:
        before = store.benchmark(spec.name)
        if {trial.id for trial in trials} <= set(before.trial_ids):
            return Redone()
        results = store.results(trial_ids=list(store.finished(before.trial_ids)))
    except StoreError:  # what is damaged is registered anew, what is newer is not looked at
        return Redone()
    ids = {result.trial.id for result in results}
    seconds = {_cell(result.trial): result.seconds for result in results}
    again = [_cell(trial) for trial in trials if trial.id not in ids and _cell(trial) in seconds]
    if not again:
        return Redone()
    took = sum(seconds[cell] for cell in again)
    return Redone(len(again), took, tuple(changes(before.spec, results, spec, trials)))


def _cell(trial: Trial) -> tuple[str | int | None, ...]:
    """Where a trial stands in the grid, whatever it depends on."""
    return trial.method, json.dumps(trial.parameters, sort_keys=True), trial.target, trial.fleet, trial.seed


def _plain(fleet: FleetSpec) -> dict[str, Any]:
    return fleet.model_dump(mode="json")


def _changed_sources(stored: Sequence[Trial], trials: Sequence[Trial]) -> Iterator[str]:
    known = {trial.fleet: trial.sources for trial in stored}
    for trial in trials:
        before, now = known.get(trial.fleet, trial.sources), trial.sources
        yield from (said for name, said in SOURCES.items() if before.get(name) != now.get(name))


def differences(before: Any, now: Any, place: str) -> list[str]:
    """Keys whose values differ, with both."""
    if before == now:
        return []
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = dict.fromkeys((*before, *now))
        return [line for key in keys for line in differences(before.get(key), now.get(key), f"{place}.{key}")]
    if str(before).startswith(CONTENT) and str(now).startswith(CONTENT):
        return [f"the content of the file that {place} names"]
    return [f"{place}: {_short(before)} -> {_short(now)}"]


def _short(value: Any) -> str:
    text = "default" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
