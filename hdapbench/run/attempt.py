"""One trial: a method's plan, evaluated and stored as an artifact."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hdapbench.bench.limit import Limit
from hdapbench.errors import MethodError
from hdapbench.files import replacing
from hdapbench.method import Budget, Method, Plan, Problem
from hdapbench.method.isolation import kept_process, stdout_kept_free, told_interrupts
from hdapbench.method.registry import MethodRegistry
from hdapbench.models import state_hash
from hdapbench.quant.deploy.packed import PACKED, save_packed
from hdapbench.run.artifact import ONNX, STATE_HASH, describe_data, describe_model, save_artifact
from hdapbench.run.deaths import counted
from hdapbench.run.evaluate import Evaluation, evaluate
from hdapbench.run.grid import base_directory
from hdapbench.run.prepare import Preparation
from hdapbench.run.stages import Measured, OverLimit
from hdapbench.spec import parse_target
from hdapbench.trial import DENSE, DeviceLatency, Metrics, Outcomes, Spent, Status, Trial


@dataclass(frozen=True)
class Outcome:
    """What came of a trial; the fields are those of `hdapbench.trial.Result`.

    ``spent`` is None where the trial ended in an error: the runner then asks the budget.
    """

    status: Status
    reason: str | None = None
    plan: Plan | None = None
    metrics: Metrics | None = None
    devices: tuple[DeviceLatency, ...] = ()
    outcomes: Outcomes | None = None
    spent: Spent | None = None
    artifact: str | None = None
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Proposal:
    """A method's plan, its accounts, what it remembered, and the limit that it was given."""

    plan: Plan
    limit: Limit | None
    spent: Spent
    notes: dict[str, Any]


def carry_out(trial: Trial, preparation: Preparation, registry: MethodRegistry, budget: Budget) -> Outcome:
    """Outcome of a trial: proposed, evaluated, and its artifact written.

    Raises
    ------
    HdapbenchError
        When the method fails, its target is out of reach or its budget does not suffice.
    """
    progress = preparation.listener.progress
    if trial.method == DENSE:
        bench = preparation.bench(trial.fleet)
        sizes = bench.network.group_set.sizes
        plan = Plan(kept={name: tuple(range(int(size))) for name, size in sizes.items()})
        proposal = Proposal(plan, None, Spent(), preparation.facts(bench))
    else:
        proposed = _propose(trial, preparation, registry, budget)
        if isinstance(proposed, str):
            return Outcome(Status.SKIPPED, proposed, spent=budget.spent)
        proposal = proposed
    evaluation = Evaluation(
        preparation.bench(trial.fleet),
        preparation.data,
        proposal.limit,
        trial.seed,
        lambda report: progress(f"fine-tuning, epoch {report.epoch}/{report.epochs}, loss {report.loss:.3f}"),
    )
    found = evaluate(evaluation, proposal.plan)
    if isinstance(found, OverLimit):
        return Outcome(Status.INFEASIBLE, found.reason, found.plan, spent=proposal.spent, notes=proposal.notes)
    _save(found, trial, preparation)
    return Outcome(
        Status.COMPLETE,
        plan=found.plan,
        metrics=found.metrics,
        devices=found.devices,
        outcomes=found.outcomes,
        spent=proposal.spent,
        artifact=trial.id,
        notes=proposal.notes,
    )


def _propose(trial: Trial, preparation: Preparation, registry: MethodRegistry, budget: Budget) -> Proposal | str:
    """A method's proposal, or its reason to skip the trial."""
    bench, target = preparation.bench(trial.fleet), parse_target(str(trial.target))
    method = registry.resolve(trial.method, trial.parameters)
    method.model_dump(mode="json")  # what cannot be stored names no trial
    if not target.kinds <= method.targets:
        return f"meets targets in {', '.join(sorted(method.targets))}"
    limit = bench.limit(target, seed=trial.seed)
    decisions: dict[str, Any] = {}
    problem = Problem(
        bench,
        limit,
        seed=trial.seed,
        budget=budget,
        on_progress=preparation.listener.progress,
        on_decision=decisions.__setitem__,
    )
    with counted(preparation.workspace.deaths / trial.id, preparation.listener.phase):
        try:
            reason, plan, put_back = _asked(method, problem, preparation)
        finally:
            if registry.code(trial.method) is not None:  # code of others: whatever it reached in memory is made anew
                preparation.renew()
    if reason is not None:
        return str(reason).strip() or "the method gives no reason"
    if not isinstance(plan, Plan):
        raise MethodError(f"compress returned a {type(plan).__name__}, not a Plan")
    notes = ({"decisions": decisions} if decisions else {}) | ({"put_back": put_back} if put_back else {})
    return Proposal(plan, limit, budget.spent, notes)


def _asked(method: Method, problem: Problem, preparation: Preparation) -> tuple[str | None, Plan | None, list[str]]:
    """Reason to skip, or plan; and what of the process the method changed, which is afterwards as it was.

    Raises
    ------
    MethodError
        When the method changed the dense model, which is then read again for the next trial.
    """
    before = preparation.dense_state()
    try:
        with told_interrupts(), kept_process() as put_back, stdout_kept_free(), problem.budget.enforced():
            reason = method.skip(problem)
            plan = method.compress(problem) if reason is None else None
    finally:
        changed = preparation.dense_state() != before
        if changed:
            preparation.forget()
    if changed:
        raise MethodError("it changed the dense model, which all methods share; work on problem.model()")
    return reason, plan, put_back


def _save(found: Measured, trial: Trial, preparation: Preparation) -> None:
    """Write a trial's plan and networks."""
    directory = preparation.workspace.artifacts / trial.id
    loaded, n_classes = preparation.loaded, preparation.data.n_classes
    architecture = describe_model(loaded.spec.model, n_classes=n_classes, base_dir=base_directory(loaded))
    description = {"trial": trial.model_dump(mode="json"), STATE_HASH: state_hash(found.model)} | architecture
    description |= describe_data(preparation.data)
    save_artifact(directory, plan=found.plan, model=found.model, description=description)
    if found.integer is not None:
        save_packed(found.integer, directory / PACKED)
    if found.onnx is not None:
        with replacing(directory / ONNX) as partial:
            partial.write_bytes(found.onnx)
