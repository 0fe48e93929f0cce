"""What a predicted candidate costs, against pruning and running it, and what a search costs per evaluation.

Bounds hold for processor time, whatever else the machine does.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from hdapbench.cost.model import CostModel
from hdapbench.cost.records import ChannelCount, LayerRecord
from hdapbench.search import SearchSpace, genetic, minimise
from hdapbench.search.repair import repaired
from hdapbench.search.space import Archive
from studies.search_speed import HEURISTICS, physical_seconds, prediction_seconds, seconds, world

LEAST_TIMES_FASTER = 1000.0
MOST_TIMES_PREDICTION = 400.0
"""Most that a search may take, relative to predicting as many plans in one batch."""
LEAST_TIMES_ENUMERATED = 5.0
"""Least factor by which valuing each of few plans once is faster than searching among them with many evaluations."""
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


def test_where_there_are_few_plans_each_is_valued_once(benchmark) -> None:  # type: ignore[no-untyped-def]
    sizes = {"a": 12, "b": 16}
    counts = [ChannelCount(3), *(ChannelCount(0, {name: 1}) for name in sizes)]
    records = [LayerRecord(name, "conv", (), counts[i], counts[i + 1], 4, 4, 4, 4) for i, name in enumerate(sizes)]
    cost = CostModel.from_records(records, sizes)
    space = SearchSpace(cost, cost.dense.flops // 2, lambda widths: widths.sum(axis=1).astype(float))
    start = repaired(space, cost.sizes[None])

    def heuristic() -> None:
        genetic.search(Archive(space, limit=MANY), start, np.random.default_rng(0))

    def enumerated() -> None:
        minimise(space, start=start, n_evaluations=MANY, rng=np.random.default_rng(0), algorithm="genetic")

    enumerated()
    once = seconds(lambda: benchmark.pedantic(enumerated, rounds=1))
    searched = seconds(heuristic)

    benchmark.extra_info["times_faster"] = round(searched / once, 1)
    assert searched / once > LEAST_TIMES_ENUMERATED
