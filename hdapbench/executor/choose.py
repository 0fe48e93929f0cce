"""Executors by name, and the one that suits a run."""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from hdapbench.errors import ExecutorError, MethodError, MissingExtraError
from hdapbench.executor.inline import Inline
from hdapbench.executor.message import order_of
from hdapbench.executor.on_ray import OnRay
from hdapbench.executor.process import GPUS, Processes
from hdapbench.run.job import Executor, Job
from hdapbench.run.listener import Listener
from hdapbench.run.supply import Supply
from hdapbench.run.waiting import Waits
from hdapbench.runtimes.host import usable_cpus
from hdapbench.trial import Result

ExecutorName = Literal["inline", "process", "ray"]
NAMES: tuple[ExecutorName, ...] = get_args(ExecutorName)
VARIABLE = "HDAPBENCH_EXECUTOR"
"""Names the executor of runs that name none."""


@dataclass(frozen=True)
class Chosen:
    """Carries out trials as was asked for, and what was not asked for as suits the run.

    Attributes
    ----------
    name
        Executor; None: worker processes where there are cores for several, else this process.
    n_workers
        Trials at once at most; None: as many as there are cores for.
    address
        Of a Ray cluster.
    """

    name: ExecutorName | None = None
    n_workers: int | None = None
    address: str | None = None

    def ended(self, job: Job, supply: Supply, listener: Listener) -> Generator[Result | Waits, None, None]:
        """What came of each trial of a supply, as it ends."""
        executor, said = self._suited(job, supply.n_left)
        if supply.n_left > 1 and said:
            listener.phase(said)
        yield from executor.ended(job, supply, listener)

    def _suited(self, job: Job, n_left: int) -> tuple[Executor, str]:
        """Who carries out a run, and what to say of it."""
        if self.name == "ray":
            return OnRay(self.address, n_workers=self.n_workers), ""
        threads = job.loaded.spec.threads
        n_workers = min(self.n_workers or max(len(usable_cpus()) // threads, 1), n_left)
        device = str(job.loaded.spec.device)
        gpus = _gpus() if device in ("cuda", "auto") else []
        if gpus or device.startswith("cuda"):
            n_workers = min(n_workers, max(len(gpus), 1))
        why_one = ""
        live = [fleet.name for fleet in job.loaded.spec.fleets if fleet.is_live]
        if live and n_workers > 1:
            n_workers = 1
            why_one = f"one trial at a time: two at once would disturb the latencies of fleet '{live[0]}'"
        if self.name == "inline":
            return Inline(), ""
        if self.name is None:
            if n_workers < 2:
                return Inline(), why_one
            try:
                order_of(job, [])
            except MethodError as error:
                return Inline(), f"one trial at a time: {error}"
        each = f"{threads} thread" + ("s" if threads > 1 else "")
        many = f"{n_workers} worker processes" if n_workers > 1 else "one worker process"
        return Processes(n_workers, gpus[:n_workers]), why_one or f"{many} of {each}"


def _gpus() -> list[str]:
    """GPUs of this machine that this process may use, each as `GPUS` names it."""
    named = os.environ.get(GPUS)
    if named is not None:
        return [gpu.strip() for gpu in named.split(",") if gpu.strip()]
    return [str(number) for number, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]


def chosen(name: str | None = None, *, n_workers: int | None = None, address: str | None = None) -> Executor:
    """Executor by name; without one the variable HDAPBENCH_EXECUTOR names it, or the run decides.

    Raises
    ------
    ExecutorError
        When there is no such executor, or it has no address.
    MissingExtraError
        When Ray is not installed.
    """
    found = name or ("ray" if address else os.environ.get(VARIABLE)) or None
    known = next((known for known in NAMES if known == found), None)
    if found is not None and known is None:
        place = f"no executor is called '{found}'" if name else f"{VARIABLE}: no executor is called '{found}'"
        raise ExecutorError(f"{place}; known: {', '.join(NAMES)}")
    if address is not None and known != "ray":
        raise ExecutorError(f"executor {known} has no address; {address} is for --executor ray")
    if known == "ray" and find_spec("ray") is None:
        raise MissingExtraError("ray", "ray", "executor ray")
    return Chosen(known, n_workers, address)
