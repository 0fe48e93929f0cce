"""Trials on the machines of a Ray cluster: each node is sent what it needs, and results come back to the one store."""

from __future__ import annotations

import os
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from hdapbench import __version__
from hdapbench.errors import ExecutorError, HdapbenchError, said
from hdapbench.executor.luggage import Bases, Files, Luggage, at_home, base_key, packed, write_files
from hdapbench.executor.message import Task, order_of
from hdapbench.executor.process import carried_out
from hdapbench.executor.ray_host import Host
from hdapbench.executor.slot import Began, Event, NotBegun, Said
from hdapbench.run.environment import current_environment
from hdapbench.run.grid import base_directory
from hdapbench.run.job import Job
from hdapbench.run.listener import Listener
from hdapbench.run.supply import Supply
from hdapbench.run.waiting import Waits
from hdapbench.trial import NUMBERS, Result, Spent, Status

MOST_LOSSES = 2
"""Nodes that may be lost with a trial before it is a failed row."""
MOST_STARTS = 3
"""Actors that may end one after another before they are ready."""
END_SECONDS = 10.0


class OnRay:
    """Carries out trials on a Ray cluster.

    Parameters
    ----------
    address
        ``HOST:PORT`` of the cluster; None: one of this machine alone, which ends with the run.
    n_workers
        Trials at once at most; None: as many as the cluster has processors for.
    """

    def __init__(self, address: str | None = None, *, n_workers: int | None = None) -> None:
        self._address, self._n_workers = address, n_workers

    def ended(self, job: Job, supply: Supply, listener: Listener) -> Generator[Result | Waits, None, None]:
        """What came of each trial of a supply, as it ends."""
        spec = job.loaded.spec
        on_this_host = [fleet.name for fleet in spec.fleets if fleet.on_this_host]
        if on_this_host:
            raise ExecutorError(
                f"fleet '{on_this_host[0]}' is measured on this host, not on a cluster; run with --executor inline"
            )
        luggage = packed(order_of(job, []))
        with _Cluster(self._address) as cluster:
            n_workers = self._n_workers or max(int(cluster.n_cpus) // spec.threads, 1)
            if any(fleet.is_live for fleet in spec.fleets):
                n_workers = 1
            n_workers = min(n_workers, supply.n_left)
            events: SimpleQueue[Event] = SimpleQueue()
            crew = _Crew(cluster.ray, job, luggage, events.put)
            places = [_Place(crew) for _ in range(n_workers)]
            yield from carried_out(places, events, job, supply, listener)


class _Cluster:
    """A connection to a cluster; a context manager. One that this process has already is used, and left as it is."""

    def __init__(self, address: str | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self.ray: Any = ray
        self._address = address
        self._is_ours = False

    def __enter__(self) -> _Cluster:
        ray = self.ray
        if ray.is_initialized():
            return self
        options = {"log_to_driver": False, "logging_level": "ERROR"}
        if self._address is None:
            options |= {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        else:
            options["address"] = self._address
        try:
            ray.init(**options)
        except Exception as error:  # Ray raises many kinds, its own and the system's
            place = self._address or "this machine"
            raise ExecutorError(f"there is no Ray cluster at {place}: {said(error)[:300]}") from error
        self._is_ours = True
        return self

    @property
    def n_cpus(self) -> float:
        """Processors of all nodes."""
        return float(self.ray.cluster_resources().get("CPU", 1))

    def __exit__(self, *_: object) -> None:
        if self._is_ours:
            self.ray.shutdown()


class _Crew:
    """What the places of one run share: their luggage, the base model that the first of them made, and losses."""

    def __init__(self, ray: Any, job: Job, luggage: Luggage, tell: Callable[[Event], object]) -> None:
        self.ray, self.tell, self.workspace = ray, tell, job.workspace
        self.folder = base_directory(job.loaded)
        spec = job.loaded.spec
        n_gpus = 1 if spec.device.startswith("cuda") else 0
        self._actor = ray.remote(Host).options(num_cpus=spec.threads, num_gpus=n_gpus, max_concurrency=4)
        self._run, self._luggage = secrets.token_hex(8), ray.put(luggage)
        self._bases = Bases(job.workspace, base_key(job.loaded))
        self._base = self._bases.read()
        self._has_base, self._first = threading.Event(), threading.Lock()
        if self._base is not None:
            self._has_base.set()
        self.losses: Counter[str] = Counter()
        self.is_over = threading.Event()

    def actor(self) -> Any:
        """A host on some node, once the base model is there or this place is to make it; None when it is over."""
        while not self._has_base.is_set() and not self._first.acquire(timeout=0.2):
            if self.is_over.is_set():
                return None
        return self._actor.remote(self._run, self._luggage, self._base or {})

    def began(self, actor: Any) -> None:
        """A trial has begun on a host: the base model is there, which the others get."""
        if not self._has_base.is_set():
            files: Files = self.ray.get(actor.base.remote())
            self._base = files
            self._bases.write(files)
            self._has_base.set()

    def lost(self) -> None:
        """A host was lost; if it was to make the base model, another does."""
        if not self._has_base.is_set():
            with suppress(RuntimeError):
                self._first.release()


class _Place:
    """One trial at a time on some node: an actor, and a thread that takes in what it tells."""

    def __init__(self, crew: _Crew) -> None:
        self._crew = crew
        self._actor: Any = None
        self._is_ready, self._why = False, ""
        self._task: Task | None = None
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="ray", daemon=True)
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        """Whether a trial can be given to it."""
        return self._is_ready and self._task is None

    def give(self, task: Task) -> None:
        """Have a trial carried out."""
        self._task = task
        self._tasks.put(task)

    def end_overdue(self) -> None:
        """Nothing: the host sees to it."""

    def close(self, *, at_once: bool) -> None:  # noqa: ARG002 - nothing is lost by it: what has ended was told
        """End the actor and what it has on its node. Again is harmless."""
        self._crew.is_over.set()
        self._tasks.put(None)
        actor, self._actor = self._actor, None
        was_ready, self._is_ready = self._is_ready, False
        if actor is None:
            return
        with suppress(Exception):  # its node may be gone
            if was_ready:
                self._crew.ray.get(actor.end.remote(), timeout=END_SECONDS)
            self._crew.ray.kill(actor)
        self._thread.join(END_SECONDS)

    def _serve(self) -> None:
        n_starts = 0
        while not self._crew.is_over.is_set() and n_starts < MOST_STARTS:
            try:
                actor = self._actor = self._crew.actor()
                if actor is None:
                    return
                self._check(*self._crew.ray.get(actor.here.remote()))
                self._is_ready, n_starts = True, 0
                while (task := self._tasks.get()) is not None:
                    for reference in actor.carry_out.options(num_returns="streaming").remote(task):
                        self._take(actor, *self._crew.ray.get(reference))
                return
            except HdapbenchError as error:
                self._crew.tell(error)
                return
            except Exception as error:  # noqa: BLE001 - Ray's own, of many kinds
                if self._crew.is_over.is_set():
                    return
                n_starts += 1
                self._lose(said(error)[:300])
        if not self._crew.is_over.is_set():
            self._crew.tell(ExecutorError(f"workers do not start on the cluster: {self._why}"))

    def _check(self, node: str, version: str, numbers: int) -> None:
        if (version, numbers) != (__version__, NUMBERS):
            raise ExecutorError(f"node {node} has hdapbench {version}, this machine {__version__}; install the same")

    def _take(self, actor: Any, event: Event, files: Files) -> None:
        """Take in an event; of what came of the trial, its artifact first."""
        if isinstance(event, Began):
            self._crew.began(actor)
        if isinstance(event, Result | Waits | HdapbenchError):
            write_files(self._crew.workspace.root, at_home(files, self._crew.folder), anew=True)
            self._task = None
        self._crew.tell(event)

    def _lose(self, why: str) -> None:
        """The node or the actor was lost: its trial is done again elsewhere, or is a failed row."""
        self._is_ready, self._why = False, why
        task, self._task = self._task, None
        self._crew.lost()
        if task is None:
            return
        self._crew.losses[task.trial.id] += 1
        if self._crew.losses[task.trial.id] < MOST_LOSSES:
            self._crew.tell(Said(f"the node of {task.trial} was lost; it is done again"))
            self._crew.tell(NotBegun(task))
            return
        reason = f"{MOST_LOSSES} nodes were lost with this trial: {why}"
        result = Result(
            trial=task.trial, status=Status.FAILED, reason=reason, spent=Spent(), environment=current_environment()
        )
        self._crew.tell(result)
