"""What a predicted candidate costs, against pruning and running it, and what a search costs per evaluation.

Bounds hold for processor time, whatever else the machine does.
"""

from __future__ import annotations

import importlib.util

import pytest

from studies.search_speed import HEURISTICS, physical_seconds, prediction_seconds, seconds, world

LEAST_TIMES_FASTER = 1000.0
MOST_TIMES_PREDICTION = 400.0
"""Most that a search may take, relative to predicting as many plans in one batch."""
FEW, MANY = 300, 900
MOST_GROWTH = 3.0
"""Most that an evaluation may cost in a long search, relative to a short one."""


def test_a_predicted_candidate_is_a_thousand_times_cheaper_than_a_pruned_and_run_one(benchmark) -> None:  # type: ignore[no-untyped-def]
    here = world()

    predicted = benchmark.pedantic(lambda: prediction_seconds(here), rounds=1)
    physical = physical_seconds(here)

    benchmark.extra_info["candidates_per_second"] = round(1 / predicted)
    benchmark.extra_info["times_faster"] = round(physical / predicted)
    assert physical / predicted > LEAST_TIMES_FASTER


@pytest.mark.parametrize("algorithm", HEURISTICS)
def test_the_time_of_a_search_grows_with_its_evaluations_and_no_faster(benchmark, algorithm: str) -> None:  # type: ignore[no-untyped-def]
    if algorithm == "cma-es" and importlib.util.find_spec("cma") is None:
        pytest.skip("cma is not installed")
    here = world()
    here.search(algorithm, 50)  # type: ignore[arg-type]  # imports what it needs

    few = seconds(lambda: here.search(algorithm, FEW), rounds=2) / FEW  # type: ignore[arg-type]
    many = seconds(lambda: benchmark.pedantic(lambda: here.search(algorithm, MANY), rounds=1)) / MANY  # type: ignore[arg-type]

    benchmark.extra_info["evaluations_per_second"] = round(1 / many)
    benchmark.extra_info["times_prediction"] = round(many / prediction_seconds(here), 1)
    assert many < MOST_GROWTH * few
    assert many < MOST_TIMES_PREDICTION * prediction_seconds(here)
