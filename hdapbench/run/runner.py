"""Trials -> Results: the only place where any exception of a trial becomes a row with a reason."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hdapbench.errors import (
    BudgetExceededError,
    HdapbenchError,
    MethodError,
    TargetUnreachableError,
)
from hdapbench.method.budget import Budget
from hdapbench.method.isolation import kept_settings, stdout_kept_free
from hdapbench.method.registry import MethodRegistry, line_of, package_of
from hdapbench.plan import Plan
from hdapbench.run.environment import current_environment
from hdapbench.run.grid import base_directory
from hdapbench.run.saved_model import describe_model
from hdapbench.spec import LoadedSpec, parse_target
from hdapbench.trial import DENSE, Result, Spent, Status, Trial

if TYPE_CHECKING:
    from hdapbench.bench.network import Network
    from hdapbench.bench.workbench import Workbench
    from hdapbench.data import DataSplits
    from hdapbench.method import Method, Problem
    from hdapbench.run.limit import Use
    from hdapbench.tasks.base import DenseBase


class Listener(Protocol):
    """Whoever shows a run's progress. Every method may be called often and must return quickly."""

    def phase(self, text: str) -> None:
        """A step before the trials: reading data, training the base model, tracing."""

    def started(self, trial: Trial) -> None:
        """A trial begins."""

    def progress(self, text: str) -> None:
        """A line about the current trial or phase."""

    def finished(self, result: Result) -> None:
        """A trial has ended and is stored."""


@dataclass(frozen=True)
class Workspace:
    """Folder of everything that a run leaves behind, by default ``.hdapbench`` in the current directory."""

    root: Path

    @property
    def cache(self) -> Path:
        """Decoded data, trained base models, weights handed over by methods."""
        return self.root / "cache"

    @property
    def artifacts(self) -> Path:
        """Plan and weights of each completed trial, one folder per trial id."""
        return self.root / "artifacts"

    @property
    def database(self) -> Path:
        """The results database."""
        return self.root / "results.db"


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
    """

    def __init__(
        self, loaded: LoadedSpec, registry: MethodRegistry, *, workspace: Workspace, listener: Listener
    ) -> None:
        self.spec = loaded.spec
        self.loaded = loaded
        self.registry = registry
        self.workspace = workspace
        self.listener = listener
        self._prepared: tuple[DataSplits, DenseBase, Network] | None = None
        self._benches: dict[str, Workbench] = {}

    def results(self, trials: Sequence[Trial]) -> Iterator[Result]:
        """Result of each trial, as soon as it is there. An interrupt ends the iteration; nothing is half done.

        A trial that fails becomes a `Status.FAILED` result with the exception as its reason. Data, base model and
        trace are prepared when the first trial needs them: errors there concern all trials and are raised.
        """
        import torch
        from threadpoolctl import threadpool_limits

        torch.set_num_threads(self.spec.threads)
        # numpy's products here are small: with a thread per core on a busy machine they took ten times as long.
        try:
            with threadpool_limits(limits=1, user_api="blas"):
                for trial in trials:
                    bench = self.bench(trial.fleet)
                    self.listener.started(trial)
                    yield self._attempt(trial, bench)
        finally:
            for bench in self._benches.values():
                bench.fleet.close()

    def _attempt(self, trial: Trial, bench: Workbench) -> Result:
        started = time.monotonic()
        budget = Budget(self.spec.budget)
        outcome: dict[str, Any]
        try:
            outcome = self._carry_out(trial, bench, budget)
        except TargetUnreachableError as error:
            outcome = {"status": Status.INFEASIBLE, "reason": str(error)}
        except BudgetExceededError as error:
            outcome = {"status": Status.TIMEOUT, "reason": str(error)}
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a failing plug-in is a row with a reason, never a crash
            outcome = {"status": Status.FAILED, "reason": failure_reason(error, self._package(trial))}
        outcome.setdefault("spent", budget.spent)
        return Result(
            trial=trial,
            seconds=round(time.monotonic() - started, 3),
            environment=current_environment(),
            **outcome,
        )

    def _carry_out(self, trial: Trial, bench: Workbench, budget: Budget) -> dict[str, Any]:
        from hdapbench.method import Problem
        from hdapbench.quant.deploy.packed import PACKED, save_packed
        from hdapbench.run.artifact import ONNX, save_artifact
        from hdapbench.run.evaluate import evaluate_plan
        from hdapbench.run.limit import Limit

        cost = bench.network.cost
        notes: dict[str, Any] = {}
        target_flops: int | None = None
        use: Use | None = None
        if trial.method == DENSE:
            plan = Plan(kept={name: tuple(range(int(size))) for name, size in bench.network.group_set.sizes.items()})
            spent = Spent()
            notes = self._dense_notes(bench)
        else:
            target = parse_target(str(trial.target))
            method: Method = self.registry.resolve(trial.method, trial.parameters)
            method.model_dump(mode="json")  # what cannot be stored names no trial
            if target.kind not in method.targets:
                return {"status": Status.SKIPPED, "reason": f"meets targets in {', '.join(sorted(method.targets))}"}
            limit = Limit.of(bench, target, seed=trial.seed)
            target_flops = limit.target_flops
            problem = Problem(
                bench,
                target_flops=target_flops,
                seed=trial.seed,
                budget=budget,
                on_progress=self.listener.progress,
                limit=(limit.kind, limit.amount),
            )
            reason, proposed = self._propose(method, problem)
            if reason is not None:
                return {"status": Status.SKIPPED, "reason": str(reason).strip() or "the method gives no reason"}
            if not isinstance(proposed, Plan):
                raise MethodError(f"compress returned a {type(proposed).__name__}, not a Plan")
            plan = proposed
            notes = {"decisions": problem.decisions} if problem.decisions else {}
            spent = budget.spent
            plan.check(bench.network.group_set.sizes)
            flops = int(cost.flops(np.array(plan.widths(cost.groups)))[0])
            if flops > target_flops:
                reason = f"the plan needs {flops:,} FLOPs, {flops / target_flops - 1:.1%} above the target"
                return {"status": Status.INFEASIBLE, "reason": reason, "plan": plan, "spent": spent, "notes": notes}
            use = limit.use(bench, plan, seed=trial.seed)
            if use is not None and use.excess is not None:
                return {"status": Status.INFEASIBLE, "reason": use.excess, "plan": plan, "spent": spent, "notes": notes}

        evaluation = evaluate_plan(
            bench,
            plan,
            target_flops=target_flops,
            seed=trial.seed,
            latency=None if use is None else use.latency,
            on_epoch=lambda report: self.listener.progress(
                f"fine-tuning, epoch {report.epoch}/{report.epochs}, loss {report.loss:.3f}"
            ),
        )
        directory = self.workspace.artifacts / trial.id
        save_artifact(
            directory,
            plan=plan,
            model=evaluation.model,
            description={"trial": trial.model_dump(mode="json")}
            | describe_model(self.spec.model, n_classes=bench.data.n_classes, base_dir=base_directory(self.loaded)),
        )
        if evaluation.integer is not None:
            save_packed(evaluation.integer, directory / PACKED)
        if evaluation.onnx is not None:
            (directory / ONNX).write_bytes(evaluation.onnx)
        return {
            "status": Status.COMPLETE,
            "plan": plan,
            "metrics": evaluation.metrics.model_copy(update={"target_share": None if use is None else use.share}),
            "devices": evaluation.devices,
            "spent": spent,
            "artifact": trial.id,
            "notes": notes,
        }

    def _propose(self, method: Method, problem: Problem) -> tuple[str | None, Plan | None]:
        """Reason to skip, or plan. What all trials share is afterwards as it was, whatever a plug-in does to it.

        Raises
        ------
        MethodError
            When the method changed the dense model, which is then read again for the next trial.
        """
        before = self._dense_state()
        try:
            with kept_settings(), problem.budget.enforced(), stdout_kept_free():
                reason = method.skip(problem)
                plan = method.compress(problem) if reason is None else None
        finally:
            changed = self._dense_state() != before
            if changed:
                self._forget()
        if changed:
            raise MethodError("it changed the dense model, which all methods share; work on problem.model()")
        return reason, plan

    def _dense_state(self) -> tuple[str, list[bool], list[bool]]:
        """Weights, training modes and gradients of the dense model, in what compares equal."""
        from hdapbench.models import state_hash

        model = self._prepare()[2].model
        return (
            state_hash(model),
            [module.training for module in model.modules()],
            [parameter.requires_grad for parameter in model.parameters()],
        )

    def _forget(self) -> None:
        """Prepare data, base model and benches anew for the next trial."""
        for bench in self._benches.values():
            bench.fleet.close()
        self._benches.clear()
        self._prepared = None

    def _package(self, trial: Trial) -> str | None:
        """Where a trial's method has its own code; None for the dense model and methods that cannot be loaded."""
        with contextlib.suppress(MethodError):
            return package_of(self.registry.get(trial.method))
        return None

    def _dense_notes(self, bench: Workbench) -> dict[str, Any]:
        data, base, network = self._prepare()
        clustered = bench.clustered_fleet()  # first: a fleet that was measured says more about itself
        return {
            "base_hash": base.hash,
            "base_origin": "trained by the spec's recipe" if base.trained else "loaded from weights",
            "data_hash": data.content_hash,
            **({"skipped_files": data.n_skipped} if data.n_skipped else {}),
            "n_groups": len(network.group_set.groups),
            "frozen_groups": {group.name: group.reason for group in network.group_set.frozen},
            "fleet": bench.fleet.describe(),
            "n_clusters": clustered.n_clusters,
            "fingerprint_queries": clustered.n_fingerprint_queries,
            "n_measured": clustered.n_measured,
            "estimator": clustered.estimator,
        }

    def bench(self, fleet_name: str) -> Workbench:
        """What trials on one fleet of the spec work with; the first call reads data and prepares the base model."""
        if fleet_name not in self._benches:
            from hdapbench.bench.workbench import Workbench
            from hdapbench.fleet.open import open_fleet

            data, _, network = self._prepare()
            fleet = next(fleet for fleet in self.spec.fleets if fleet.name == fleet_name)
            self._benches[fleet_name] = Workbench(
                network=network,
                data=data,
                fleet=open_fleet(fleet, cache_dir=self.workspace.cache / "exports", on_progress=self.listener.progress),
                clustering=fleet.clustering,
                runs=fleet.runs,
                recipe=self.spec.fine_tune,
                directory=self.workspace.cache / "weights",
                task_name=self.spec.task,
                device=self.spec.device,
            )
        return self._benches[fleet_name]

    def _prepare(self) -> tuple[DataSplits, DenseBase, Network]:
        if self._prepared is None:
            from hdapbench.bench.network import trace
            from hdapbench.data import load_data
            from hdapbench.tasks.base import prepare_base
            from hdapbench.tasks.open import open_task
            from hdapbench.tasks.training import Setting

            spec, base_dir = self.spec, base_directory(self.loaded)
            self.listener.phase("reading data")
            data = load_data(
                spec.data,
                spec.model.input_shape,
                base_dir=base_dir,
                cache_dir=self.workspace.cache,
                on_progress=self.listener.progress,
            )
            self.listener.phase("preparing the base model")
            base = prepare_base(
                spec.model,
                spec.base,
                data,
                base_dir=base_dir,
                cache_dir=self.workspace.cache,
                setting=Setting(open_task(spec.task), spec.device),
                on_epoch=lambda report: self.listener.progress(
                    f"training the base model, epoch {report.epoch}/{report.epochs}, loss {report.loss:.3f}"
                ),
            )
            self.listener.phase("tracing the model")
            self._prepared = (data, base, trace(base.model, spec.model.input_shape))
        return self._prepared


def failure_reason(error: BaseException, package: str | None = None) -> str:
    """One line that names an exception and, for unexpected ones, the package's own last line, or what raised it."""
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, HdapbenchError):
        return text
    file, line = line_of(error, package)
    place = f" at {file}:{line}" if file else ""
    return f"{type(error).__name__}{place}: {text[:300]}"


def forward(results: Iterator[Result], sink: Callable[[Result], None], listener: Listener) -> Iterator[Result]:
    """Results as they come, each stored by ``sink`` before it is announced."""
    for result in results:
        sink(result)
        listener.finished(result)
        yield result
