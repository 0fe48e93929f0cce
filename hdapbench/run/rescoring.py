"""A plan that is scored again: its fleet was recorded anew, its network is what it was."""

from __future__ import annotations

from hdapbench.run.attempt import Outcome
from hdapbench.run.evaluate import measure_plan
from hdapbench.run.prepare import Preparation
from hdapbench.trial import SCORED_AGAIN, Result, Trial


def scored_again(earlier: Result, trial: Trial, preparation: Preparation) -> Outcome:
    """Outcome of a trial whose plan and trained network an earlier recording brought about, timed on the present one.

    Raises
    ------
    FleetError
        When the recording lacks the plan.
    ValueError
        When the earlier trial is not complete.
    """
    plan, before = earlier.plan, earlier.metrics
    if plan is None or before is None:
        raise ValueError(f"trial {earlier.trial.id} is not complete")
    found = measure_plan(preparation.bench(trial.fleet).measurer, plan, seed=trial.seed)
    metrics = before.model_copy(
        update={
            "latency_ms": found.mean_ms,
            "latency_low_ms": found.low_ms,
            "latency_high_ms": found.high_ms,
            "p95_ms": found.p95_ms,
            "worst_cluster_ms": found.worst_cluster_ms,
        }
    )
    preparation.listener.phase(
        f"{trial} has the plan that {earlier.trial.id} found on an earlier recording; for a new plan: "
        f"hdapbench run {preparation.loaded.source} --rerun {trial.id}"
    )
    return Outcome(
        earlier.status,
        plan=plan,
        metrics=metrics,
        devices=found.devices,
        outcomes=earlier.outcomes,
        spent=earlier.spent,
        artifact=earlier.artifact,
        notes=earlier.notes | {SCORED_AGAIN: earlier.notes.get(SCORED_AGAIN, earlier.trial.id)},
    )
