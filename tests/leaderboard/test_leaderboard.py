from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, sqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdapbench.errors import StoreError
from hdapbench.leaderboard.build import Section, _telling, build_leaderboard
from hdapbench.leaderboard.statistics import estimate
from hdapbench.store.sqlite import Benchmark
from hdapbench.testing.store_contract import example_gap, example_metrics, example_result
from hdapbench.trial import DENSE, Result, Status
from tests.boards import SPEC, board, trial


def complete(
    method: str,
    latency_ms: float,
    accuracy: float = 0.9,
    *,
    seed: int = 0,
    flops: int = 990,
    parameters: Mapping[str, Any] | None = None,
    target: str = "0.5x",
) -> Result:
    metrics = example_metrics(latency_ms=latency_ms, accuracy=accuracy, flops=flops)
    return example_result(trial(method, seed=seed, target=target, parameters=parameters), metrics=metrics)


def dense(latency_ms: float = 20.0, accuracy: float = 0.95) -> Result:
    metrics = example_metrics(latency_ms=latency_ms, accuracy=accuracy, flops=2000)
    metrics = metrics.model_copy(update={"flops_target": None})
    return example_result(trial(DENSE), metrics=metrics, notes={"n_clusters": 8})


def only_section(results: Sequence[Result], *, seeds: Sequence[int] = (0, 1)) -> Section:
    (section,) = board(results, spec=SPEC | {"seeds": list(seeds)}).sections
    return section


def test_the_interval_over_two_seeds_is_that_of_students_t() -> None:
    # mean 11, standard deviation sqrt(2), t(1 degree, 97.5 %) = 12.706: 12.706 * sqrt(2) / sqrt(2)
    found = estimate([10.0, 12.0])

    assert (found.mean, found.n) == (11.0, 2)
    assert found.half_width == pytest.approx(12.706)
    assert (found.low, found.high) == pytest.approx((-1.706, 23.706))


def test_one_seed_gives_no_interval() -> None:
    found = estimate([7.0])

    assert (found.mean, found.half_width, found.n, found.low, found.high) == (7.0, None, 1, 7.0, 7.0)


@pytest.mark.parametrize(
    ("n", "quantile"), [(5, 2.776), (11, 2.228), (12, 2.201), (16, 2.131), (31, 2.042), (121, 1.980)]
)
def test_the_quantile_agrees_with_published_tables(n: int, quantile: float) -> None:
    values = [float(number) for number in range(n)]
    standard_error = sqrt(n * (n + 1) / 12) / sqrt(n)  # sample variance of 0..n-1 is n (n + 1) / 12

    half_width = estimate(values).half_width

    assert half_width is not None
    assert half_width / standard_error == pytest.approx(quantile, rel=2e-3)


@given(st.lists(st.floats(min_value=0.1, max_value=1e3), min_size=2, max_size=30), st.floats(0.1, 10.0))
def test_an_interval_holds_its_mean_and_scales_with_the_values(values: list[float], factor: float) -> None:
    found, scaled = estimate(values), estimate([value * factor for value in values])

    assert found.low <= found.mean <= found.high
    assert scaled.mean == pytest.approx(found.mean * factor)
    assert scaled.half_width == pytest.approx((found.half_width or 0.0) * factor, abs=1e-9)


@given(st.permutations([("a", 10.0, 0.8), ("b", 10.0, 0.9), ("c", 11.0, 0.9), ("d", 9.0, 0.7)]))
def test_rows_are_ranked_by_latency_and_the_more_accurate_first_where_it_is_equal(
    results: list[tuple[str, float, float]],
) -> None:
    section = only_section([complete(*result) for result in results])

    assert [(row.rank, row.label) for row in section.rows] == [(1, "d"), (2, "b"), (3, "a"), (4, "c")]


def test_numbers_are_means_over_seeds_and_compared_with_the_dense_model() -> None:
    results = [
        dense(20.0, 0.95),
        complete("a", 8.0, 0.90, seed=0, flops=980),
        complete("a", 12.0, 0.92, seed=1, flops=1000),
    ]

    found = board(results)
    (row,) = found.sections[0].rows

    assert (row.latency_ms.mean, row.n_seeds, row.n_planned) == (10.0, 2, 2)
    assert row.accuracy.mean == pytest.approx(0.91)
    assert row.speed_up == pytest.approx(2.0)
    assert row.accuracy_drop == pytest.approx(0.04)
    assert (row.flops, row.params, row.size_bytes) == (990, 9900, 39600)
    assert row.flops_share == pytest.approx(0.99)
    assert (row.p95_ms, row.worst_cluster_ms) == pytest.approx((12.0, 15.0))
    assert row.fleet_half_width == pytest.approx(0.02)
    assert (row.device_queries, row.accuracy_evals, row.train_epochs) == (320, 4, 1.5)


def test_the_dense_row_is_beside_the_ranking_and_has_no_rank() -> None:
    found = board([dense(20.0), complete("a", 30.0)])

    assert found.dense["nx"].rank is None
    assert found.dense["nx"].flops_share is None
    assert (found.dense["nx"].speed_up, found.dense["nx"].accuracy_drop) == (1.0, 0.0)
    assert [row.label for row in found.sections[0].rows] == ["a"]


@pytest.mark.parametrize("results", [[], [example_gap(trial(DENSE))]])
def test_without_a_dense_model_nothing_is_said_to_be_faster(results: list[Result]) -> None:
    (row,) = only_section([*results, complete("a", 10.0)]).rows

    assert (row.speed_up, row.accuracy_drop) == (None, None)


def test_a_dense_model_that_failed_is_a_visible_gap() -> None:
    section = only_section([example_gap(trial(DENSE), reason="out of memory"), complete("a", 10.0)])

    assert [(gap.label, gap.status, gap.reason) for gap in section.gaps] == [("dense", "failed", "out of memory")]


def test_rows_whose_interval_overlaps_that_of_the_first_are_marked() -> None:
    def twice(method: str, low: float, high: float) -> list[Result]:
        return [complete(method, low, seed=0), complete(method, high, seed=1)]

    # half-widths: 12.706 * difference / 2
    section = only_section([*twice("first", 9.9, 10.1), *twice("near", 10.4, 10.6), *twice("far", 19.9, 20.1)])

    assert [(row.label, row.level_with_first) for row in section.rows] == [
        ("first", False),
        ("near", True),
        ("far", False),
    ]


def test_a_row_of_one_seed_inside_the_interval_of_the_first_is_marked_too() -> None:
    first = [complete("first", 9.9, seed=0), complete("first", 10.1, seed=1)]

    section = only_section([*first, complete("inside", 11.0), complete("outside", 12.0)])

    assert [row.level_with_first for row in section.rows] == [False, True, False]


def test_one_seed_shows_no_row_to_be_level() -> None:
    section = only_section([complete("a", 10.0), complete("b", 10.001)], seeds=[0])

    assert [row.level_with_first for row in section.rows] == [False, False]


latencies_and_accuracies = st.lists(
    st.tuples(st.sampled_from([5.0, 6.0, 7.0, 8.0]), st.sampled_from([0.7, 0.8, 0.9])), min_size=1, max_size=8
)


@given(latencies_and_accuracies)
def test_the_pareto_front_is_what_a_sweep_finds(points: list[tuple[float, float]]) -> None:
    section = only_section([complete(f"m{number}", *point) for number, point in enumerate(points)])

    best, front = -inf, set()
    for latency, accuracy in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if accuracy > best:
            best = accuracy
            front.add((latency, accuracy))
    assert all(row.pareto == ((row.latency_ms.mean, row.accuracy.mean) in front) for row in section.rows)


@pytest.mark.parametrize(("flops", "gave_away"), [(969, True), (970, False), (1000, False)])
def test_a_row_below_97_percent_of_the_target_gave_budget_away(flops: int, gave_away: bool) -> None:
    (row,) = only_section([complete("a", 10.0, flops=flops)]).rows

    assert row.gave_budget_away is gave_away


def test_variants_of_a_method_are_told_apart_by_the_parameters_that_differ() -> None:
    section = only_section(
        [
            complete("tp", 1.0, parameters={"importance": "taylor", "steps": 1, "round_to": 8}),
            complete("tp", 2.0, parameters={"importance": "lamp", "steps": 1, "round_to": 8}),
            complete("tp", 3.0, parameters={"importance": "lamp", "steps": 2, "round_to": 8}),
            complete("uniform", 4.0, parameters={"steps": 12}),
        ]
    )

    assert [row.label for row in section.rows] == [
        "tp (taylor, steps=1)",
        "tp (lamp, steps=1)",
        "tp (lamp, steps=2)",
        "uniform",
    ]


def test_every_trial_without_numbers_is_a_gap_with_its_reason() -> None:
    section = only_section(
        [
            complete("a", 10.0, seed=0),
            example_gap(trial("a", seed=1), reason="out of memory"),
            example_gap(trial("b", seed=1), status=Status.SKIPPED, reason="needs batch norm"),
            example_gap(trial("b", seed=0), status=Status.INFEASIBLE, reason="the plan needs 1,100 FLOPs"),
        ]
    )

    assert [(gap.label, gap.seed, gap.status, gap.reason) for gap in section.gaps] == [
        ("a", 1, "failed", "out of memory"),
        ("b", 0, "infeasible", "the plan needs 1,100 FLOPs"),
        ("b", 1, "skipped", "needs batch norm"),
    ]
    assert [(row.label, row.n_seeds, row.n_planned) for row in section.rows] == [("a", 1, 2)]


def test_a_plan_above_its_target_is_never_ranked() -> None:
    above = complete("a", 1.0).model_copy(update={"status": Status.INFEASIBLE, "reason": "above the target"})

    section = only_section([above, complete("b", 10.0)])

    assert [row.label for row in section.rows] == ["b"]
    assert [gap.reason for gap in section.gaps] == ["above the target"]


def test_a_complete_result_above_the_limit_of_its_section_is_a_gap_with_its_excess() -> None:
    heavy = complete("a", 1.0, flops=1001)
    wide = complete("b", 2.0)
    wide = wide.model_copy(update={"metrics": wide.metrics.model_copy(update={"flops": 3000, "flops_target": 4000})})
    greedy = complete("c", 3.0)
    greedy = greedy.model_copy(update={"metrics": greedy.metrics.model_copy(update={"target_share": 1.004})})

    section = only_section([dense(), heavy, wide, greedy, complete("d", 10.0)], seeds=[0])

    assert [row.label for row in section.rows] == ["d"]
    assert [(gap.label, gap.status, gap.reason) for gap in section.gaps] == [
        ("a", "infeasible", "1,001 FLOPs, above the target of 1,000"),
        ("b", "infeasible", "3,000 FLOPs, above the target of 1,000"),
        ("c", "infeasible", "uses 100.40% of its target"),
    ]


def test_a_stored_spec_of_a_newer_version_is_one_error() -> None:
    with pytest.raises(StoreError, match=r"'example' is of another version of hdapbench: carbon: .*pip install"):
        build_leaderboard(Benchmark("example", "5" * 16, SPEC | {"carbon": True}, ()), [dense()])


def test_every_target_has_a_section_of_its_own_in_the_order_of_the_spec() -> None:
    found = board([dense(), complete("a", 10.0, target="0.5x"), complete("a", 5.0, target="0.25x")])

    assert [(section.target, section.rows[0].latency_ms.mean) for section in found.sections] == [
        ("0.5x", 10.0),
        ("0.25x", 5.0),
    ]


def test_results_are_found_when_the_spec_gives_its_fleet_another_name() -> None:
    renamed = SPEC | {"fleets": [SPEC["fleets"][0] | {"name": "boards-of-line-3"}]}

    found = board([dense(), complete("a", 10.0)], spec=renamed)

    assert [section.fleet for section in found.sections] == ["boards-of-line-3"]
    assert found.dense.keys() == found.notes.keys() == {"boards-of-line-3"}


def test_measured_and_simulated_latencies_never_share_a_section_unmarked() -> None:
    measured = complete("b", 11.0)
    assert measured.metrics is not None
    measured = measured.model_copy(
        update={"metrics": measured.metrics.model_copy(update={"latency_source": "measured"})}
    )

    assert only_section([complete("a", 10.0)]).source == "simulated"
    assert only_section([complete("a", 10.0), measured]).source == "measured and simulated"


def test_trials_that_have_not_run_are_counted() -> None:
    found = board([dense(), complete("a", 10.0)], pending=3)

    assert (found.n_finished, found.n_trials) == (2, 5)


def test_the_environments_are_named_once_each() -> None:
    other = complete("b", 11.0)
    other = other.model_copy(update={"environment": other.environment.model_copy(update={"python": "3.12.1"})})

    found = board([complete("a", 10.0), other, complete("c", 12.0)])

    assert [environment.python for environment in found.environments] == ["3.11.7", "3.12.1"]


def test_a_preset_alone_names_a_variant_when_it_sets_the_other_parameters() -> None:
    ours = {"preset": "default", "surrogate": "nnls", "n_plans": 80}
    paper = {"preset": "paper", "surrogate": "gbrt", "n_plans": 100}

    assert _telling([ours, paper, ours]) == ("preset",)
    assert _telling([ours, paper, ours | {"n_plans": 40}]) == ("preset", "n_plans")
    assert _telling([ours]) == ()
