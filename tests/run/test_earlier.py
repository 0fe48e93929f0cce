"""Which stored results let a trial be scored again on another recording."""

from __future__ import annotations

from pathlib import Path

import pytest

from hdapbench.plan import Plan
from hdapbench.run.earlier import EarlierResults
from hdapbench.run.environment import current_environment
from hdapbench.spec import Spec, load_spec
from hdapbench.store.sqlite import open_store
from hdapbench.trial import DENSE, Metrics, Result, Status, Trial

NUMBERS = {name: 0 for name, field in Metrics.model_fields.items() if field.is_required()}
CELL = Trial(benchmark="b", context="c", method="hdap", target="0.5x", fleet="lab", fleet_hash="old", seed=0)


@pytest.fixture
def spec(tiny_spec: Path) -> Spec:
    return load_spec(tiny_spec, ["fleets=[{name: lab, kind: recorded, path: lab.csv}]"])


def stored(folder: Path, *trials: Trial, source: str = "measured", **changes: object) -> Path:
    metrics = Metrics.model_validate(NUMBERS | {"latency_source": source, "latency_ms": 2.0, "flops_target": None})
    with open_store(folder / "results.db") as store:
        for trial in trials:
            result = Result(
                trial=trial,
                status=Status.COMPLETE,
                plan=Plan(kept={}),
                metrics=metrics,
                environment=current_environment(),
            )
            store.add(result.model_copy(update=changes))
    return folder / "results.db"


def changed(**changes: object) -> Trial:
    return CELL.model_copy(update={"fleet_hash": "new"} | changes)


def test_the_same_trial_on_another_recording_is_an_earlier_one(spec: Spec, tmp_path: Path) -> None:
    earlier = EarlierResults(spec, stored(tmp_path, CELL), rerun=())

    found = earlier.of(changed())

    assert found is not None
    assert found.trial == CELL


@pytest.mark.parametrize(
    "trial",
    [
        changed(seed=1),
        changed(context="other weights"),
        changed(parameters={"n_plans": 9}),
        changed(method=DENSE, target=None),
        changed(fleet="here"),
    ],
)
def test_another_trial_has_no_earlier_one(trial: Trial, spec: Spec, tmp_path: Path) -> None:
    twin = trial.model_copy(update={"fleet_hash": "old"})
    if trial.fleet == "lab" and trial.method != DENSE:
        twin = CELL
    assert EarlierResults(spec, stored(tmp_path, twin), rerun=()).of(trial) is None


def test_a_target_on_latency_and_a_rerun_are_carried_out_anew(spec: Spec, tmp_path: Path) -> None:
    limited = CELL.model_copy(update={"target": "0.8x latency"})
    database = stored(tmp_path, CELL, limited)

    assert EarlierResults(spec, database, rerun={changed().id}).of(changed()) is None
    assert EarlierResults(spec, database, rerun=()).of(changed(target="0.8x latency")) is None


@pytest.mark.parametrize(
    ("source", "changes"), [("simulated", {}), ("measured", {"status": Status.FAILED, "reason": "x"})]
)
def test_simulated_and_failed_results_are_no_earlier_ones(
    source: str, changes: dict[str, object], spec: Spec, tmp_path: Path
) -> None:
    assert EarlierResults(spec, stored(tmp_path, CELL, source=source, **changes), rerun=()).of(changed()) is None
