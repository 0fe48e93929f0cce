"""A spec's trials run from Python, with methods by name, file, class or instance."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from hdapbench.api.boards import WORKSPACE, Board, workspace_with
from hdapbench.errors import MethodError, printable
from hdapbench.executor.choose import chosen
from hdapbench.leaderboard.build import build_leaderboard
from hdapbench.leaderboard.labels import labels_of
from hdapbench.method.base import Method
from hdapbench.method.registry import MethodRegistry, is_path
from hdapbench.run.grid import register_plugins
from hdapbench.run.listener import Listener
from hdapbench.run.sharding import Shard
from hdapbench.run.whole import carry_through, import_what_makes_numbers, let_threads_sleep, plan_run
from hdapbench.spec import LoadedSpec, MethodSpec, load
from hdapbench.spec.shipped import spec_file
from hdapbench.trial import Result, Trial

AnyMethod = str | Path | Method | type[Method]


def run(  # noqa: PLR0913 - what the command line offers, by name
    spec: str | Path,
    *,
    methods: Sequence[AnyMethod] | None = None,
    overrides: Mapping[str, object] | None = None,
    workspace: str | Path = WORKSPACE,
    listener: Listener | None = None,
    retry_failed: bool = False,
    store: str | Path | None = None,
    executor: str | None = None,
    workers: int | None = None,
    address: str | None = None,
    shard: str | None = None,
) -> Board:
    """Board of a spec, after those of its trials have run that are not stored yet.

    It is what ``hdapbench run`` does. An interrupt loses the trial in flight alone; the next call goes on. A run with
    ``methods`` or ``overrides`` explores: it leaves what is registered under the spec's name as it is.

    Parameters
    ----------
    spec
        A YAML file, or the name of a spec that ships: ``quickstart``. The call runs the code that the spec names.
    methods
        What runs instead of the spec's methods: names, files such as ``./mine.py``, subclasses of `Method` or
        instances. A name that the spec lists has the parameters that the spec gives it.
    overrides
        Keys of the spec -> values: ``{"seeds": [0], "fleets[0].n_devices": 8}``.
    workspace
        Folder of database, caches and artifacts.
    listener
        Who is told how it goes; by default a line per trial on standard error.
    retry_failed
        Whether trials run again that failed or timed out.
    store
        URL or file of another database than the workspace's, by default what ``HDAPBENCH_STORE`` names.
    executor
        Where trials run: ``inline``, ``process`` or ``ray``; by default in worker processes where cores allow several.
    workers
        Trials at once; by default as many as there are cores for.
    address
        ``HOST:PORT`` of a Ray cluster; by default one of this machine alone.
    shard
        Part of the trials that runs, such as ``1/3``, for machines that share no store.

    Raises
    ------
    SpecError, MethodError, ModelError, DataError
        When the spec or a method cannot be used; nothing has been spent then.
    """
    let_threads_sleep()
    carried_out_by = chosen(executor, n_workers=workers, address=address)
    loaded = load(spec_file(str(spec)), [f"{key}={json.dumps(value)}" for key, value in (overrides or {}).items()])
    registry = MethodRegistry(import_what_makes_numbers)
    register_plugins(loaded, registry)
    if methods is not None:
        entries = tuple(entry for method in methods for entry in _entries(method, loaded, registry))
        if not entries:
            raise MethodError("methods is empty; name one, or leave it out to run those of the spec")
        loaded = replace(loaded, spec=loaded.spec.model_copy(update={"methods": entries}))
    explores = methods is not None or bool(overrides)
    planned = plan_run(loaded, registry, workspace_with(workspace, store), explores=explores)

    def show(trials: tuple[Trial, ...], _n_done: int) -> AbstractContextManager[Listener]:
        return nullcontext(listener or Lines(trials))

    ended = carry_through(
        planned, show, carried_out_by, retry_failed=retry_failed, shard=Shard.read(shard) if shard else None
    )
    return Board(build_leaderboard(planned.benchmark, ended.results), lambda: ended.results)


class Lines:
    """A line on standard error for each trial that ends: how, and after how long."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self._labels = labels_of(trials)
        self._started = time.monotonic()

    def phase(self, text: str) -> None:
        """Say a phase."""
        self._say(text)

    def started(self, trial: Trial) -> None:
        """Say nothing: a line per trial is enough."""

    def progress(self, text: str) -> None:
        """Say nothing of steps."""

    def finished(self, result: Result) -> None:
        """Say how a trial ended."""
        name, metrics = result.trial.named(self._labels[result.trial.id]), result.metrics
        how = result.reason if metrics is None else f"{metrics.accuracy:.2%}, {metrics.latency_ms:.4g} ms"
        self._say(f"{name}: {result.status.value}, {how} ({result.seconds:.0f} s)")

    def _say(self, text: str) -> None:
        seconds = time.monotonic() - self._started
        sys.stderr.write(f"[{seconds:6.0f} s] {printable(text)}\n")


def _entries(method: AnyMethod, loaded: LoadedSpec, registry: MethodRegistry) -> list[MethodSpec]:
    """What a spec would say of a method."""
    if isinstance(method, Method):
        given = method.model_dump(mode="json", exclude_unset=True)
        one_trial = {name: [value] if isinstance(value, list) else value for name, value in given.items()}
        return [MethodSpec(name=registry.add_class(type(method)), parameters=one_trial)]
    if isinstance(method, type):
        return [MethodSpec(name=registry.add_class(method))]
    if not isinstance(method, str | Path):
        raise MethodError(
            f"{method!r} is no method: give a name, a file, a subclass of hdapbench.method.Method or one of it"
        )
    if isinstance(method, Path) or is_path(method):
        return [MethodSpec(name=name) for name in registry.add_file(Path(method))]
    of_spec = [entry for entry in loaded.spec.methods if entry.name == method]
    return of_spec or [MethodSpec(name=method)]
