from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from hdapbench.errors import StoreError
from hdapbench.plan import Plan
from hdapbench.run.verification import accuracy_interval, compare, sample_of
from hdapbench.testing.store_contract import example_gap, example_metrics, example_result, example_trial
from hdapbench.trial import Outcomes, Result

SAME_BASE = {"stored": "a", "found": "a"}


def result(*, n_images: int = 400, accuracy: float = 0.9, latency_ms: float = 10.0, **changes: Any) -> Result:
    metrics = example_metrics(accuracy=accuracy, latency_ms=latency_ms).model_copy(update=changes)
    right = np.arange(n_images) < round(accuracy * n_images)
    return example_result(metrics=metrics).model_copy(update={"outcomes": Outcomes.of_images(right)})


@pytest.mark.parametrize(("n_images", "accuracy"), [(359, 0.9861), (359, 1.0), (5000, 0.5), (20, 0.0)])
def test_the_interval_of_an_accuracy_is_that_of_its_test_images(n_images: int, accuracy: float) -> None:
    n_right = round(n_images * accuracy)
    expected = binomtest(n_right, n_images).proportion_ci(0.99, method="wilson")

    found = accuracy_interval(result(n_images=n_images, accuracy=n_right / n_images))

    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_interval_of_a_detector_is_that_of_its_groups_of_images() -> None:
    parts = tuple(np.random.default_rng(0).normal(0.4, 0.1, 25))
    detector = result(accuracy=0.4).model_copy(update={"outcomes": Outcomes(n_images=100, parts=parts)})

    low, high = accuracy_interval(detector)

    assert (high + low) / 2 == pytest.approx(0.4)
    assert (high - low) / 2 == pytest.approx(2.5758 * np.std(parts, ddof=1) / 5, rel=1e-4)


@pytest.mark.parametrize(
    ("found", "bases", "verdict"),
    [
        (result(), SAME_BASE, "bit for bit"),
        (result(accuracy=0.88), SAME_BASE, "within tolerance"),
        (result(accuracy=0.84), SAME_BASE, "accuracy outside 85.46% to 93.23%"),
        (result(latency_ms=10.0 + 1e-9), SAME_BASE, "within tolerance"),
        (result(latency_ms=10.0 + 1e-7), SAME_BASE, "another simulated latency"),
        (result(latency_source="measured"), SAME_BASE, "latency is measured"),
        (result().model_copy(update={"plan": Plan(kept={"conv1": (0,)})}), SAME_BASE, "another plan"),
        (
            result(latency_ms=12.0).model_copy(update={"plan": Plan(kept={"conv1": (0,)})}),
            {"stored": "a", "found": "b"},
            "within tolerance, on another base model",
        ),
        (example_gap(example_trial(), reason="out of memory"), SAME_BASE, "failed: out of memory"),
    ],
)
def test_a_comparison_says_what_differs(found: Result, bases: dict[str, str], verdict: str) -> None:
    compared = compare(result(), found, bases=bases, exact=False)

    assert compared.verdict == verdict
    assert compared.holds is verdict.startswith(("bit", "within"))


def test_exactly_means_every_number() -> None:
    assert compare(result(), result(), bases=SAME_BASE, exact=True).holds
    assert not compare(result(), result(accuracy=0.8975), bases=SAME_BASE, exact=True).holds


@pytest.mark.parametrize(("latency_ms", "holds"), [(9.9, True), (10.3, True), (11.5, False), (9.0, False)])
def test_a_measured_latency_lies_within_what_its_repeats_span(latency_ms: float, *, holds: bool) -> None:
    stored = result(latency_source="measured")  # its repeats average 9.8125 to 10.625 ms, its interval is 9.8 to 10.2

    found = result(latency_source="measured", latency_ms=latency_ms)

    assert compare(stored, found, bases=SAME_BASE, exact=False).holds is holds


def test_the_same_seed_draws_the_same_sample_of_what_the_spec_can_make_again() -> None:
    results = [example_result(example_trial(seed=seed)) for seed in range(9)]
    trials = [found.trial.model_copy(update={"sources": {"host": "another"}}) for found in results[:6]]

    drawn = sample_of(results, trials, n=3, seed=1)

    assert drawn == sample_of(results[::-1], trials, n=3, seed=1)
    assert len(drawn) == 3
    assert all(stored.trial.seed == trial.seed < 6 for stored, trial in drawn)
    assert len(sample_of(results, trials, n=99, seed=1)) == 6
    with pytest.raises(StoreError, match="none of the 9 complete results is of a trial of this spec"):
        sample_of(results, [example_trial(seed=99)], n=1, seed=0)
