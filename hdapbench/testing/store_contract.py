"""What any results store must do, as a test suite: subclass `StoreContract` and return your store from its fixture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from hdapbench.errors import StoreError
from hdapbench.plan import Plan
from hdapbench.store.sqlite import Store
from hdapbench.trial import DENSE, DeviceLatency, Environment, Metrics, Result, Spent, Status, Trial

ENVIRONMENT = Environment(
    hdapbench="0.1.0",
    python="3.11.7",
    platform="Linux x86_64",
    torch="2.14.0",
    torchvision="0.29.0",
    torch_pruning="1.6.1",
    numpy="2.0.0",
    threads=1,
)


def example_trial(
    method: str = "uniform",
    *,
    seed: int = 0,
    target: str | None = "0.5x",
    fleet: str = "nx",
    fleet_hash: str = "f" * 16,
    parameters: Mapping[str, Any] | None = None,
) -> Trial:
    """Trial of the benchmark ``example``; the dense reference has no target."""
    return Trial(
        benchmark="example",
        context="c" * 16,
        method=method,
        parameters=dict(parameters or {}),
        target=None if method == DENSE else target,
        fleet=fleet,
        fleet_hash=fleet_hash,
        seed=seed,
    )


def example_metrics(
    *, latency_ms: float = 10.0, accuracy: float = 0.9, flops: int = 990, target: int = 1000
) -> Metrics:
    """Metrics whose other numbers follow from these: interval of ±2 %, p95 and worst cluster 1.2 and 1.5 times it."""
    return Metrics(
        flops=flops,
        params=flops * 10,
        size_bytes=flops * 40,
        activation_bytes=4096,
        flops_target=target,
        accuracy=accuracy,
        accuracy_before=0.5,
        latency_ms=latency_ms,
        latency_low_ms=latency_ms * 0.98,
        latency_high_ms=latency_ms * 1.02,
        p95_ms=latency_ms * 1.2,
        worst_cluster_ms=latency_ms * 1.5,
        latency_source="simulated",
        mask_difference=1e-6,
        fine_tune_epochs=3.0,
    )


def example_result(
    trial: Trial | None = None, *, metrics: Metrics | None = None, notes: Mapping[str, Any] | None = None
) -> Result:
    """Complete result with a plan and the raw repeats of two devices."""
    return Result(
        trial=trial or example_trial(),
        status=Status.COMPLETE,
        plan=Plan(kept={"conv1": (0, 2, 5), "layer1": (1,)}),
        metrics=metrics or example_metrics(),
        devices=(
            DeviceLatency(device="nx-003", cluster=0, weight=0.75, samples_ms=(9.5, 9.25, 9.75)),
            DeviceLatency(device="nx-017", cluster=1, weight=0.25, samples_ms=(12.0, 11.5, 13.25)),
        ),
        spent=Spent(device_queries=320, accuracy_evals=4, train_epochs=1.5, wall_seconds=2.25),
        seconds=7.5,
        environment=ENVIRONMENT,
        artifact="0123456789ab",
        notes=dict(notes or {}),
    )


def example_gap(trial: Trial, *, status: Status = Status.FAILED, reason: str = "out of memory") -> Result:
    """Numberless result of a trial that came to nothing, for a reason."""
    return Result(trial=trial, status=status, reason=reason, environment=ENVIRONMENT)


class StoreContract:
    """Tests that every store passes. A subclass overrides the fixture `store`."""

    @pytest.fixture
    def store(self) -> Store:
        """Empty store, new for every test."""
        raise NotImplementedError("override the fixture `store` to return an empty store")

    def test_a_result_comes_back_as_it_was_added(self, store: Store) -> None:
        """Every field survives, the raw repeats in their order too."""
        result = example_result(notes={"fleet": {"sku": "xavier_nx"}, "n_clusters": 8})

        store.add(result)

        assert store.get(result.trial.id) == result

    @pytest.mark.parametrize("status", [status for status in Status if status is not Status.COMPLETE])
    def test_a_trial_without_numbers_keeps_its_status_and_reason(self, store: Store, status: Status) -> None:
        """Nothing is made up for what is absent."""
        gap = example_gap(example_trial(), status=status, reason="needs batch norm | <none>\nfound")

        store.add(gap)

        assert store.get(gap.trial.id) == gap

    def test_a_later_result_of_a_trial_replaces_the_earlier_one(self, store: Store) -> None:
        """Latest wins, and no repeat of the earlier result stays behind."""
        first = example_result()
        latest = first.model_copy(update={"devices": first.devices[:1], "seconds": 9.0})

        store.add(example_gap(first.trial))
        store.add(first)
        store.add(latest)

        assert store.results(trial_ids=[first.trial.id]) == [latest]

    def test_only_what_a_second_run_would_not_change_counts_as_finished(self, store: Store) -> None:
        """Failed and timed-out trials are finished on request only."""
        trials = {status: example_trial(seed=seed) for seed, status in enumerate(Status)}
        for status, trial in trials.items():
            store.add(example_result(trial) if status is Status.COMPLETE else example_gap(trial, status=status))
        ids = [trial.id for trial in trials.values()]

        done = store.finished([*ids, "unknown"])
        ended = store.finished([*ids, "unknown"], include_failed=True)

        assert set(done.values()) == {Status.COMPLETE, Status.SKIPPED, Status.INFEASIBLE}
        assert ended == {trial.id: status for status, trial in trials.items()}

    def test_results_come_in_the_order_asked_for(self, store: Store) -> None:
        """Trials without a result are left out."""
        results = [example_result(example_trial(seed=seed)) for seed in range(3)]
        for result in results:
            store.add(result)

        found = store.results(trial_ids=[results[2].trial.id, "unknown", results[0].trial.id])

        assert found == [results[2], results[0]]

    def test_a_benchmark_comes_back_with_its_spec_and_its_trials_in_order(self, store: Store) -> None:
        """Registering the same spec again replaces the list of its trials."""
        store.register("b", spec_hash="1" * 16, spec_json='{"name": "b"}', trial_ids=["x", "a"])
        store.register("b", spec_hash="1" * 16, spec_json='{"name": "b"}', trial_ids=["x", "m", "a"])

        benchmark = store.benchmark("b")

        assert (benchmark.name, benchmark.spec_hash, benchmark.spec) == ("b", "1" * 16, {"name": "b"})
        assert benchmark.trial_ids == ("x", "m", "a")

    def test_the_spec_registered_last_is_the_one_that_counts(self, store: Store) -> None:
        """Going back to an earlier spec of the same name makes it the latest again."""
        store.register("b", spec_hash="1" * 16, spec_json="{}", trial_ids=["old"])
        store.register("b", spec_hash="2" * 16, spec_json="{}", trial_ids=["new"])
        store.register("other", spec_hash="3" * 16, spec_json="{}", trial_ids=[])
        assert store.benchmark("b").trial_ids == ("new",)
        assert store.benchmarks() == ("other", "b")

        store.register("b", spec_hash="1" * 16, spec_json="{}", trial_ids=["old"])

        assert store.benchmark("b").trial_ids == ("old",)
        assert store.benchmarks() == ("b", "other")

    def test_exploring_changes_nothing_about_what_is_registered(self, store: Store) -> None:
        """An exploration is shown only where there is nothing else, and does not shrink the same spec."""
        store.register("b", spec_hash="9" * 16, spec_json="{}", trial_ids=["explored"], explores=True)
        assert store.benchmark("b").trial_ids == ("explored",)

        store.register("b", spec_hash="1" * 16, spec_json="{}", trial_ids=["x", "y"])
        for spec_hash in ("9" * 16, "8" * 16, "1" * 16):
            store.register("b", spec_hash=spec_hash, spec_json="{}", trial_ids=["x"], explores=True)

        assert store.benchmark("b").trial_ids == ("x", "y")
        assert store.benchmark("b", spec_hash="8" * 16).trial_ids == ("x",)

        store.register("b", spec_hash="8" * 16, spec_json="{}", trial_ids=["z"])
        assert store.benchmark("b").trial_ids == ("z",)

    def test_an_unknown_benchmark_is_refused_with_the_known_ones(self, store: Store) -> None:
        """The error suggests the name that was probably meant."""
        store.register("quickstart", spec_hash="1" * 16, spec_json="{}", trial_ids=[])

        with pytest.raises(StoreError, match=r"no benchmark 'quickstrat'.*did you mean 'quickstart'"):
            store.benchmark("quickstrat")

    def test_an_id_is_found_by_its_beginning_unless_that_is_ambiguous(self, store: Store) -> None:
        """Wildcards of the database are ordinary characters."""
        results = {(result := example_result(example_trial(seed=seed))).trial.id: result for seed in range(17)}
        for result in results.values():
            store.add(result)
        firsts = [trial_id[0] for trial_id in results]
        shared = next(digit for digit in firsts if firsts.count(digit) > 1)

        for trial_id, result in results.items():
            assert store.get(trial_id[:8]) == result
        with pytest.raises(StoreError, match="several trials begin with"):
            store.get(shared)
        for unknown in ("zzz", "", "%", "_", next(iter(results)) + "0"):
            with pytest.raises(StoreError, match=f"no trial whose id begins with '{unknown}'"):
                store.get(unknown)
