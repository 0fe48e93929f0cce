"""Results from several places put together, or why they do not belong together. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from hdapbench.errors import StoreError
from hdapbench.run.changes import changed_code, differences
from hdapbench.spec import Spec
from hdapbench.store.sqlite import DONE, Benchmark, Store
from hdapbench.store.travel import SUFFIX, UPGRADE, Travelling, only_named, read_travelling
from hdapbench.trial import DENSE, NUMBERS, Result

Keep = Literal["ours", "theirs"]
FACTS = ("data_hash", "fleet", "n_clusters", "n_measured", "estimator")
"""Notes of the dense model, beside its hash, in which results of one board do not differ."""

SHOWN = 4
"""Reasons and conflicts that a message names; of more it tells the number."""


@dataclass(frozen=True)
class Merged:
    """What came of putting results together: all of it, and how many results were new or took another's place."""

    whole: Travelling
    n_new: int
    n_replaced: int


def merged(ours: Travelling, theirs: Travelling, *, keep: Keep | None = None) -> Merged:
    """Results of two places as one; what is the same in both is there once, and a failure never replaces what is done.

    Parameters
    ----------
    ours, theirs
        The results.
    keep
        Which ones to take where the two differ in a number.

    Raises
    ------
    StoreError
        When they are of other specs, fleets, base models or computations, or differ in a number.
    """
    reasons = why_apart(ours, theirs)
    if reasons:
        raise StoreError(f"the two do not belong on one board: {_some(reasons)}")
    results = {result.trial.id: result for result in ours.results}
    n_new, n_replaced, conflicts = 0, 0, []
    for result in theirs.results:
        former = results.get(result.trial.id)
        if former is None:
            n_new += 1
        elif is_done(former) and is_done(result) and _numbers(former) != _numbers(result):
            conflicts.append(f"{result.trial}: {_difference(former, result)}")
            if keep != "theirs":
                continue
            n_replaced += 1
        elif _holds_more(result, former):
            n_replaced += 1
        else:
            continue
        results[result.trial.id] = result
    if conflicts and keep is None:
        raise StoreError(
            f"{len(conflicts)} trials have other numbers: {_some(conflicts)}; "
            "choose with --keep ours (what is there, or the first file) or --keep theirs"
        )
    ids = dict.fromkeys((*ours.benchmark.trial_ids, *theirs.benchmark.trial_ids))
    shared = ours.benchmark
    return Merged(
        only_named(Benchmark(shared.name, shared.spec_hash, shared.spec, tuple(ids)), results.values()),
        n_new,
        n_replaced,
    )


def put_together(files: Sequence[Path], *, keep: Keep | None = None) -> Travelling:
    """What files of results hold together; see `merged`.

    Raises
    ------
    StoreError
        When one cannot be read, or they do not belong together.
    """
    whole = read_travelling(files[0])
    for file in files[1:]:
        try:
            whole = merged(whole, read_travelling(file), keep=keep).whole
        except StoreError as error:
            raise StoreError(f"{files[0]} and {file}: {error}") from None
    return whole


def is_results(name: str | Path) -> bool:
    """Whether a name is that of a file of results, or of a folder of them, and not that of a benchmark."""
    path = Path(name)
    is_folder = path.is_dir() and (len(path.parts) > 1 or any(path.glob(f"*{SUFFIX}")))
    return is_folder or path.name.endswith(SUFFIX)


def results_at(place: Path) -> Travelling:
    """What a file of results holds, or all files of a folder together: results of one spec from several machines.

    Raises
    ------
    StoreError
        When there are none, one cannot be read, or they are of several boards.
    """
    if not place.is_dir():
        return read_travelling(place)
    files = sorted(place.glob(f"*{SUFFIX}"))
    if not files:
        raise StoreError(f"there is no file of results (*{SUFFIX}) in '{place}'; results export writes one")
    try:
        return put_together(files)
    except StoreError as error:
        raise StoreError(f"{error}; name one file of '{place}'") from None


def take_in(store: Store, theirs: Travelling, *, keep: Keep | None = None, beside: bool = False) -> Merged:
    """Add the results of a file to a database; the benchmark that it shows under their name stays the one shown.

    Parameters
    ----------
    beside
        Whether to take in results of another spec than the one registered under their name.

    Raises
    ------
    StoreError
        As for `merged`, and when this version of hdapbench computes otherwise.
    """
    benchmark = theirs.benchmark
    if theirs.numbers != NUMBERS:
        remedy = (
            f"; {UPGRADE}" if theirs.numbers > NUMBERS else ": render them with hdapbench board NAME --results FILE"
        )
        raise StoreError(
            f"these results were computed in a way (version {theirs.numbers} of the numbers) that is not this "
            f"hdapbench's (version {NUMBERS}), and runs here would not add to them{remedy}"
        )
    try:
        Spec.model_validate_json(json.dumps(benchmark.spec))
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise StoreError(
            f"this hdapbench does not know such a spec ({place}: {error.errors()[0]['msg']}); {UPGRADE}"
        ) from None
    shown = store.benchmark(benchmark.name) if benchmark.name in store.benchmarks() else None
    if shown is not None and shown.explores:
        shown = None
    known = store.benchmark(benchmark.name, spec_hash=benchmark.spec_hash) if shown is not None else None
    is_other = known is not None and known.spec_hash != benchmark.spec_hash
    if is_other and known is not None and not beside:
        raise StoreError(
            f"'{benchmark.name}' is registered with another spec ({_some(_spec_differences(known, benchmark))}); "
            "keep both with --beside"
        )
    ours = benchmark if known is None or is_other else known
    ids = tuple(dict.fromkeys((*ours.trial_ids, *benchmark.trial_ids)))
    stored = Travelling(ours, tuple(store.results(trial_ids=list(store.finished(ids, include_failed=True)))))
    found = merged(stored, theirs, keep=keep)
    before = {result.trial.id: result for result in stored.results}
    for result in found.whole.results:
        if before.get(result.trial.id) is not result:
            store.add(result)
    _register(store, found.whole.benchmark)
    if shown is not None and shown.spec_hash != benchmark.spec_hash:
        _register(store, shown)
    return found


def why_apart(ours: Travelling, theirs: Travelling) -> list[str]:
    """Why two sets of results do not belong on one board; nothing where they do."""
    if ours.benchmark.name != theirs.benchmark.name:
        return [f"they are of '{ours.benchmark.name}' and '{theirs.benchmark.name}'"]
    if ours.benchmark.spec_hash != theirs.benchmark.spec_hash:
        return [f"other specs: {_some(_spec_differences(ours.benchmark, theirs.benchmark))}"]
    if not ours.results or not theirs.results:
        return []
    if ours.numbers != theirs.numbers:
        return [f"hdapbench computes other numbers since: versions {ours.numbers} and {theirs.numbers} of the numbers"]
    ours_trials, theirs_trials = ([result.trial for result in side.results] for side in (ours, theirs))
    reasons = [f"another content of {line}" for line in changed_code(ours_trials, theirs_trials)]
    if {trial.context for trial in ours_trials} != {trial.context for trial in theirs_trials} and not reasons:
        reasons.append("another content of model.weights")
    return reasons + _other_facts(ours.results, theirs.results)


def is_done(result: Result) -> bool:
    """Whether another run of the trial would not change how it ended."""
    return result.status in DONE


def _other_facts(ours: Sequence[Result], theirs: Sequence[Result]) -> list[str]:
    """What results of the dense model say otherwise of base model, data and fleets."""
    known, found = _facts(ours), _facts(theirs)
    reasons = []
    if not (known and found) and any(map(is_done, ours)) and any(map(is_done, theirs)):
        reasons.append("one has no result of the dense model, which would tell the base model and the fleet")
    for fleet_hash, result in found.items():
        former = known.get(fleet_hash) or next(iter(known.values()), result)
        before, now = former.notes, result.notes
        if before.get("base_hash") != now.get("base_hash"):
            hashes = (f"{str(r.notes.get('base_hash'))[:16]} (torch {r.environment.torch})" for r in (former, result))
            reasons.append(f"other base models: {' and '.join(hashes)}")
        if fleet_hash in known:
            fleet = result.trial.fleet
            reasons += [
                f"fleet {fleet}: {line}" for key in FACTS for line in differences(before.get(key), now.get(key), key)
            ]
    return list(dict.fromkeys(reasons))


def _facts(results: Iterable[Result]) -> dict[str, Result]:
    """Hash of a fleet -> a complete result of the dense model on it, whose notes tell about both."""
    return {result.trial.fleet_hash: result for result in results if result.trial.method == DENSE and result.metrics}


def _numbers(result: Result) -> dict[str, Any]:
    """What must be the same in two results of a trial: not how long it took, nor what is absent from older ones."""
    kept = {"status", "plan", "metrics", "devices", "spent"} | (set() if result.metrics else {"reason"})
    found = result.model_dump(include=kept)
    found["spent"].pop("wall_seconds")
    return found


def _holds_more(result: Result, former: Result) -> bool:
    """Whether a result that does not contradict the former one should take its place."""
    if is_done(result) != is_done(former):
        return is_done(result)
    return former.outcomes is None and result.outcomes is not None


def _difference(ours: Result, theirs: Result) -> str:
    if ours.metrics is None or theirs.metrics is None:
        return f"{ours.status.value} and {theirs.status.value}"
    lines = differences(_numbers(ours), _numbers(theirs), "")
    return lines[0].lstrip(".") if lines else "another plan"


def _spec_differences(ours: Benchmark, theirs: Benchmark) -> list[str]:
    lines = [line.lstrip(".") for line in differences(ours.spec, theirs.spec, "")]
    return lines or [f"hashes {ours.spec_hash} and {theirs.spec_hash}"]


def _some(lines: Sequence[str]) -> str:
    left = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return "; ".join(lines[:SHOWN]) + left


def _register(store: Store, benchmark: Benchmark) -> None:
    store.register(
        benchmark.name,
        spec_hash=benchmark.spec_hash,
        spec_json=json.dumps(benchmark.spec, sort_keys=True, separators=(",", ":")),
        trial_ids=benchmark.trial_ids,
    )
