"""Trials -> Results: the only place where any exception of a trial becomes a row with a reason."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from hdapbench.errors import (
    BudgetExceededError,
    HdapbenchError,
    MethodError,
    ModelError,
    TargetUnreachableError,
    TimeLimitError,
    printable,
    said,
)
from hdapbench.fleet.base import SparesGoneError
from hdapbench.method.budget import Budget
from hdapbench.method.registry import MethodRegistry, line_of, package_of
from hdapbench.run.environment import current_environment
from hdapbench.run.listener import Listener
from hdapbench.run.waiting import Waits
from hdapbench.run.workspace import Workspace
from hdapbench.spec import LoadedSpec
from hdapbench.trial import CLUSTERED_ANEW, Result, Spent, Status, Trial

if TYPE_CHECKING:
    from hdapbench.run.attempt import Outcome
    from hdapbench.run.prepare import Preparation


class Run:
    """One spec's trials, carried out one after another in this process.

    Parameters
    ----------
    loaded
        The spec and where it came from.
    registry
        The methods, those of the spec's plug-ins included.
    workspace
        Where caches and artifacts go.
    listener
        Receives progress.
    bases
        Hash of base models that stored results of the same spec began from -> torch that trained them: results on
        another base model are refused.
    earlier
        Finds the result that a trial had on an earlier recording of its fleet.
    """

    def __init__(
        self,
        loaded: LoadedSpec,
        registry: MethodRegistry,
        *,
        workspace: Workspace,
        listener: Listener,
        bases: Mapping[str, str] = MappingProxyType({}),
        earlier: Callable[[Trial], Result | None] = lambda _: None,
    ) -> None:
        self.loaded = loaded
        self.bases, self._earlier = bases, earlier
        self.registry = registry
        self.workspace = workspace
        self.listener = listener

    def results(self, trials: Iterable[Trial]) -> Iterator[Result | Waits]:
        """Result of each trial, as soon as it is there, before the next one is asked for; or what it waits for.

        An interrupt ends the iteration; nothing is half done. A trial that fails becomes a `Status.FAILED` result with
        the exception as its reason. Data, base model and trace are prepared when the first trial needs them: errors
        there concern all trials and are raised.

        Raises
        ------
        ModelError
            When the base model is not that of the stored results.
        """
        coming = iter(trials)
        first = next(coming, None)
        if first is None:
            return
        import torch

        from hdapbench.run.prepare import Preparation

        torch.set_num_threads(self.loaded.spec.threads)
        preparation = Preparation(self.loaded, self.workspace, self.listener)
        # numpy's products here are small: with a thread per core on a busy machine they took ten times as long.
        with contextlib.closing(preparation), threadpool_limits(limits=1, user_api="blas"):
            self._check_base(preparation)
            for trial in chain([first], coming):
                preparation.bench(trial.fleet)  # first: what fails there fails for all trials
                self.listener.started(trial)
                preparation.lacking.clear()
                result = self._result(trial, preparation)
                yield Waits(trial, copy.deepcopy(preparation.lacking)) if preparation.lacking else result

    def _check_base(self, preparation: Preparation) -> None:
        """Refuse to put results of two base models on one board: another torch or processor trains another one."""
        if not self.bases or preparation.base.hash in self.bases:
            return
        stored, torch = next(iter(self.bases.items()))
        raise ModelError(
            f"the base model is {preparation.base.hash[:16]} here, and the stored trials began from {stored[:16]}, "
            f"trained under torch {torch}; run in a new --workspace, or with cache/base of that run"
        )

    def _result(self, trial: Trial, preparation: Preparation) -> Result:
        started = time.monotonic()
        budget = Budget(self.loaded.spec.budget)
        outcome = self._outcome(trial, preparation, budget)

        def result(**content: Any) -> Result:
            seconds = round(time.monotonic() - started, 3)
            return Result(trial=trial, seconds=seconds, environment=current_environment(), **content)

        try:
            found = result(
                status=outcome.status,
                reason=outcome.reason and printable(outcome.reason),
                plan=outcome.plan,
                metrics=outcome.metrics,
                devices=outcome.devices,
                outcomes=outcome.outcomes,
                spent=budget.spent if outcome.spent is None else outcome.spent,
                artifact=outcome.artifact,
                notes=outcome.notes,
            )
            found.model_dump_json()
        except Exception as error:  # noqa: BLE001 - a plug-in may have spoilt what it was given, its budget too
            why = f"what it left cannot be stored: {type(error).__name__}: {said(error)[:300]}"
            return result(status=Status.FAILED, reason=why, spent=Spent())
        return found

    def _outcome(self, trial: Trial, preparation: Preparation, budget: Budget) -> Outcome:
        from hdapbench.run.attempt import Outcome
        from hdapbench.run.rescoring import scored_again

        try:
            if (earlier := self._earlier(trial)) is not None:
                return scored_again(earlier, trial, preparation)
            return self._carried_out(trial, preparation, budget)
        except TargetUnreachableError as error:
            return Outcome(Status.INFEASIBLE, said(error))
        except (BudgetExceededError, TimeLimitError) as error:
            return Outcome(Status.TIMEOUT, said(error))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a failing plug-in is a row with a reason, never a crash
            return Outcome(Status.FAILED, failure_reason(error, self._package(trial)))

    def _carried_out(self, trial: Trial, preparation: Preparation, budget: Budget) -> Outcome:
        """Outcome of a trial; once more on a fleet clustered anew when a device without a spare was lost."""
        from hdapbench.run.attempt import carry_out

        def attempted(budget: Budget) -> Outcome:
            with preparation.checkpoints.of(trial.id):
                return carry_out(trial, preparation, self.registry, budget)

        try:
            return attempted(budget)
        except SparesGoneError as error:
            if not preparation.clustered_anew(trial.fleet):
                raise
            why = said(error)
            self.listener.phase(f"{trial} begins anew on a fleet clustered without it: {why}")
        found = attempted(Budget(self.loaded.spec.budget))
        return replace(found, notes=found.notes | {CLUSTERED_ANEW: why})

    def _package(self, trial: Trial) -> str | None:
        """Where a trial's method has its own code; None for the dense model and methods that cannot be loaded."""
        with contextlib.suppress(MethodError):
            return package_of(self.registry.get(trial.method))
        return None


def failure_reason(error: BaseException, package: str | None = None) -> str:
    """One line that names an exception and, for unexpected ones, the package's own last line, or what raised it."""
    text = said(error)
    if isinstance(error, HdapbenchError):
        return text
    file, line = line_of(error, package)
    place = f" at {file}:{line}" if file else ""
    return f"{type(error).__name__}{place}: {text[:300]}"
