"""A spec's run as a whole, the same from a shell and from Python: what is left of its trials, stored as they end."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass

from hdapbench.files import sweep_leftovers
from hdapbench.method.registry import MethodRegistry
from hdapbench.run.changes import redone
from hdapbench.run.earlier import EarlierResults
from hdapbench.run.grid import named_by_content, plan_trials
from hdapbench.run.inspection import inspect_model
from hdapbench.run.job import Executor, Job, bases_of
from hdapbench.run.listener import Listener
from hdapbench.run.requirements import cautions
from hdapbench.run.sharding import Shard
from hdapbench.run.supply import Supply
from hdapbench.run.waiting import Waiting, results_alone
from hdapbench.run.workspace import Workspace
from hdapbench.spec import LoadedSpec, canonical_json, spec_hash
from hdapbench.store.claims import Owner
from hdapbench.store.sqlite import Benchmark, Store, open_store
from hdapbench.trial import Result, Status, Trial

NO_NUMBERS = frozenset({Status.FAILED, Status.TIMEOUT})

Show = Callable[[tuple[Trial, ...], int], AbstractContextManager[Listener]]
"""From all trials and how many are done to whoever shows the run."""


@dataclass(frozen=True)
class Planned:
    """A run before anything is spent.

    Attributes
    ----------
    loaded
        The spec that is run.
    trials
        Those of this spec.
    benchmark
        What its board is named by.
    whole
        What is registered: of a spec that was narrowed, the whole.
    explores
        Whether it leaves what was registered without exploring as it is.
    """

    loaded: LoadedSpec
    registry: MethodRegistry
    workspace: Workspace
    trials: tuple[Trial, ...]
    benchmark: Benchmark
    whole: Benchmark
    explores: bool


@dataclass(frozen=True)
class Ended:
    """What a run left.

    Attributes
    ----------
    results
        What is stored of all its trials, in their order.
    failed
        Whether one of them, or one that this run made again, failed or timed out.
    n_failed_before
        How many had failed or timed out before this run, and were not run again.
    """

    results: list[Result]
    failed: bool
    n_failed_before: int


def plan_run(
    loaded: LoadedSpec,
    registry: MethodRegistry,
    workspace: Workspace,
    *,
    part: LoadedSpec | None = None,
    explores: bool = False,
) -> Planned:
    """What a run of a spec, or of a part of it, consists of.

    Raises
    ------
    SpecError
        As `plan_trials`.
    """
    trials, whole = _benchmark(loaded, registry, workspace)
    benchmark = whole
    if part is not None and part is not loaded:
        trials, benchmark = _benchmark(part, registry, workspace)
    return Planned(part or loaded, registry, workspace, trials, benchmark, whole, explores)


def carry_through(
    planned: Planned,
    show: Show,
    executor: Executor,
    *,
    again: Collection[str] = (),
    limit: int | None = None,
    retry_failed: bool = False,
    shard: Shard | None = None,
    go_on: str = "the same call",
) -> Ended:
    """Run the trials that are not stored yet, and store each as it ends. An interrupt loses the trial in flight alone.

    Parameters
    ----------
    planned
        From `plan_run`.
    show
        Called once; what it gives is told all that happens.
    executor
        Carries out the trials.
    again
        Ids of trials that run again although they are stored.
    limit
        Trials to run at most.
    retry_failed
        Whether trials run again that failed or timed out.
    shard
        Part of the trials to run; None: all.
    go_on
        What goes on after an interrupt, for the reader.

    Raises
    ------
    SpecError, ModelError, DataError
        When it cannot be run: nothing has been spent then.
    """
    loaded, trials, workspace = planned.loaded, planned.trials, planned.workspace
    ids = [trial.id for trial in trials]
    sweep_leftovers(workspace.root)
    with open_store(workspace.database) as store:
        said = redone(store, named_by_content(loaded), trials).said(len(trials))
        said += [f"the stored result of trial {i} is damaged and is made again" for i in store.damaged(ids)]
        _register(store, planned)
        ended_before = store.finished(ids, include_failed=True)
        done = {i: status for i, status in ended_before.items() if not retry_failed or status not in NO_NUMBERS}
        redo = {*again, *(ended_before.keys() - done.keys())}
        stored = store.results(trial_ids=list(done))
        kept = {trial_id: status for trial_id, status in done.items() if trial_id not in again}
        todo = [trial for trial in (shard.of(trials) if shard else trials) if trial.id not in kept]
        if len(kept) < len(ids) and not planned.explores:
            said.append(f"the board so far, at any time: {_board_command(planned)}")
        with show(trials, len(kept)) as listener:
            _announce(listener, planned, len(kept), said)
            if todo:  # what cannot be run is refused before anything is spent
                listener.phase("checking the model")
                inspect_model(loaded, cache_dir=workspace.cache).refuse()
                for caution in cautions(loaded, planned.registry):
                    listener.phase(str(caution))
            earlier = EarlierResults(loaded.spec, workspace.database, rerun={one.trial.id for one in stored})
            job = Job(loaded, planned.registry, workspace, bases_of(stored), earlier)
            supply = Supply(todo, store, store.claims(Owner.here()), listener, again=redo, limit=limit)
            try:
                ended = _stored_as_they_end(job, executor, supply, store, listener)
            except KeyboardInterrupt:
                n_stored = len(store.finished(ids, include_failed=True))
                listener.phase(f"interrupted: {n_stored} of {len(ids)} trials are stored; go on with: {go_on}")
                raise
        results = store.results(trial_ids=ids)
    ended += [result.status for result in results]  # a failed rerun leaves the stored result in its place
    return Ended(results, bool(NO_NUMBERS & set(ended)), sum(status in NO_NUMBERS for status in kept.values()))


def _stored_as_they_end(job: Job, executor: Executor, supply: Supply, store: Store, listener: Listener) -> list[Status]:
    """How the trials of a supply ended, each stored before it is announced."""
    waiting = Waiting(job.workspace.wanted / f"{job.loaded.spec.name}.json", source=job.loaded.source)
    statuses = []
    with supply.kept(), closing(executor.ended(job, supply, listener)) as ended:
        for result in results_alone(ended, waiting, listener):
            store.add(result, owner=supply.owner)
            job.workspace.forget(result.trial.id)
            listener.finished(result)
            statuses.append(result.status)
    return statuses


def let_threads_sleep() -> None:
    """Make torch's threads sleep while they wait for each other, unless the user says otherwise.

    By default they spin. Where other processes are busy, the one that all wait for then waits for a processor
    (benchmarks/test_busy_machine.py). OpenMP reads this when torch is imported.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def import_what_makes_numbers() -> None:
    """Import what trials are carried out with, so that it can be put back when a plug-in replaces parts of it."""
    import hdapbench.run.attempt  # noqa: F401


def _benchmark(
    loaded: LoadedSpec, registry: MethodRegistry, workspace: Workspace
) -> tuple[tuple[Trial, ...], Benchmark]:
    """Trials of a spec, and what it is registered as."""
    trials = plan_trials(loaded, registry, cache_dir=workspace.cache)
    spec = named_by_content(loaded)
    content = json.loads(canonical_json(spec))
    return trials, Benchmark(spec.name, spec_hash(spec), content, tuple(trial.id for trial in trials))


def _register(store: Store, planned: Planned) -> None:
    """Note what is run: boards can be rendered from the database alone."""
    store.register(
        planned.whole.name,
        spec_hash=planned.whole.spec_hash,
        spec_json=json.dumps(planned.whole.spec, sort_keys=True, separators=(",", ":")),
        trial_ids=planned.whole.trial_ids,
        explores=planned.explores,
    )


def _board_command(planned: Planned) -> str:
    return shlex.join(["hdapbench", "board", planned.whole.name, *planned.workspace.words])


def _announce(listener: Listener, planned: Planned, n_done: int, said: list[str]) -> None:
    name, n_trials = planned.loaded.spec.name, len(planned.trials)
    if n_done == n_trials:
        listener.phase(f"{name}: all {n_trials} trials are done, nothing to run")
    elif n_done:
        listener.phase(f"{name}: {n_done} of {n_trials} trials are done and skipped")
    else:
        listener.phase(f"{name}: {n_trials} trials")
    for line in said:
        listener.phase(line)
