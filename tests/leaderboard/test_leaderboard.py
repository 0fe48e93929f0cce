from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdapbench.errors import StoreError
from hdapbench.leaderboard.board import Section
from hdapbench.leaderboard.build import build_leaderboard
from hdapbench.leaderboard.labels import _telling
from hdapbench.plan import Plan
from hdapbench.render.sentences import leads_sentence
from hdapbench.store.sqlite import Benchmark
from hdapbench.testing.store_contract import example_gap, example_metrics, example_result
from hdapbench.trial import DENSE, Outcomes, Result, Status
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
    result = example_result(trial(method, seed=seed, target=target, parameters=parameters), metrics=metrics)
    widths = range(round(latency_ms * 100))  # plans of one latency have the same widths
    return result.model_copy(update={"plan": Plan(kept={"conv": tuple(widths)})})


def dense(latency_ms: float = 20.0, accuracy: float = 0.95) -> Result:
    metrics = example_metrics(latency_ms=latency_ms, accuracy=accuracy, flops=2000)
    metrics = metrics.model_copy(update={"flops_target": None})
    return example_result(trial(DENSE), metrics=metrics, notes={"n_clusters": 8})


def only_section(results: Sequence[Result], *, seeds: Sequence[int] = (0, 1)) -> Section:
    (section,) = board(results, spec=SPEC | {"seeds": list(seeds)}).sections
    return section


@given(st.permutations([("a", 10.0, 0.895), ("b", 10.0, 0.9), ("c", 11.0, 0.9), ("d", 9.0, 0.893)]))
def test_rows_are_ranked_by_latency_and_share_a_rank_where_it_is_equal(
    results: list[tuple[str, float, float]],
) -> None:
    section = only_section([complete(*result) for result in results])

    assert [(row.rank, row.label) for row in section.rows] == [(1, "d"), (2, "b"), (2, "a"), (4, "c")]


def test_rows_that_lose_more_than_the_rule_allows_stand_below_without_a_rank() -> None:
    section = only_section(
        [complete("fast", 1.0, 0.70), complete("good", 9.0, 0.91), complete("best", 10.0, 0.92)], seeds=[0]
    )

    assert [(row.rank, row.label) for row in section.rows] == [(1, "good"), (2, "best"), (None, "fast")]
    assert section.unranked[0].missed_by == pytest.approx(0.21)
    assert (section.rule.by, section.rule.of) == ("latency", "best")


@pytest.mark.parametrize(
    ("ranking", "order"),
    [
        ({"accuracy_within": None}, ["fast", "good", "best"]),
        ({"accuracy_within": 1.0, "of": "dense"}, []),
        ({"accuracy_within": 5.0, "of": "dense"}, ["good", "best"]),
        ({"by": "accuracy"}, ["best", "good", "fast"]),
    ],
)
def test_a_spec_says_what_ranks_its_rows(ranking: dict[str, Any], order: list[str]) -> None:
    results = [dense(), complete("fast", 1.0, 0.70), complete("good", 9.0, 0.91), complete("best", 10.0, 0.92)]

    (section,) = board(results, spec=SPEC | {"seeds": [0], "ranking": ranking}).sections

    assert [row.label for row in section.ranked] == order


def test_rows_with_the_same_widths_are_ties_and_not_compared() -> None:
    section = only_section([complete("a", 10.0), complete("b", 10.0)], seeds=[0])

    assert [row.same_as for row in section.rows] == [("b",), ("a",)]
    assert section.rows[1].slower is None


def test_numbers_are_means_over_seeds_and_compared_with_the_dense_model() -> None:
    results = [
        dense(20.0, 0.95),
        complete("a", 8.0, 0.90, seed=0, flops=980),
        complete("a", 12.0, 0.92, seed=1, flops=1000),
    ]

    found = board(results)
    (row,) = found.sections[0].rows

    assert (row.latency_ms.value, row.n_seeds, row.n_planned) == (pytest.approx(sqrt(8.0 * 12.0)), 2, 2)
    assert row.accuracy.value == pytest.approx(0.91)
    assert row.speed_up is not None
    assert row.change is not None
    assert row.speed_up.value == pytest.approx(20.0 / 8.0), "dense was measured in the session of seed 0"
    assert row.change.value == pytest.approx(-0.04)
    assert (row.flops, row.params, row.size_bytes) == (990, 9900, 39600)
    assert row.flops_share == pytest.approx(0.99)
    assert (row.p95_ms, row.worst_cluster_ms) == pytest.approx((12.0, 15.0))
    assert row.fleet_half_width == pytest.approx(0.02)
    assert (row.device_queries, row.accuracy_evals, row.train_epochs) == (320, 4, 1.5)


def test_the_dense_row_is_beside_the_ranking_and_has_no_rank() -> None:
    found = board([dense(20.0), complete("a", 30.0)])

    assert found.dense["nx"].rank is None
    assert found.dense["nx"].flops_share is None
    assert (found.dense["nx"].speed_up, found.dense["nx"].change) == (None, None)
    assert [row.label for row in found.sections[0].rows] == ["a"]


@pytest.mark.parametrize("results", [[], [example_gap(trial(DENSE))]])
def test_without_a_dense_model_nothing_is_said_to_be_faster(results: list[Result]) -> None:
    (row,) = only_section([*results, complete("a", 10.0)]).rows

    assert (row.speed_up, row.change) == (None, None)


def test_a_dense_model_that_failed_is_a_visible_gap() -> None:
    section = only_section([example_gap(trial(DENSE), reason="out of memory"), complete("a", 10.0)])

    assert [(gap.label, gap.status, gap.reason) for gap in section.gaps] == [("dense", "failed", "out of memory")]


def test_a_lead_is_shown_where_seeds_agree_and_not_where_they_differ() -> None:
    def twice(method: str, first: float, second: float) -> list[Result]:
        return [complete(method, first, seed=0), complete(method, second, seed=1)]

    # The second session is slower for all alike.
    agreeing = [*twice("a", 10.0, 11.0), *twice("b", 10.5, 11.56), *twice("c", 12.0, 13.21)]
    differing = [*twice("a", 10.0, 11.0), *twice("b", 11.56, 10.5), *twice("c", 12.0, 13.21)]

    def shown(results: list[Result]) -> dict[str, bool]:
        rows = without_devices(results)
        return {row.label: row.slower.low > 0 for row in only_section(rows).rows if row.slower is not None}

    assert shown(agreeing) == {"b": True, "c": True}
    assert shown(differing) == {"b": False, "c": False}


def test_a_row_that_lacks_a_seed_is_compared_on_the_seed_it_has() -> None:
    results = [
        *(complete("a", latency, seed=seed) for seed, latency in enumerate((10.0, 20.0))),
        *(complete("b", latency, seed=seed) for seed, latency in enumerate((11.0, 22.0))),
        complete("lucky", 10.5, seed=0),  # measured in the fast session alone
    ]

    rows = only_section(without_devices(results)).rows

    assert [row.label for row in rows] == ["a", "lucky", "b"]
    assert rows[1].is_partial
    assert rows[1].slower is not None
    assert rows[1].slower.value == pytest.approx(0.05)


def without_devices(results: Sequence[Result]) -> list[Result]:
    return [result.model_copy(update={"devices": ()}) for result in results]


def test_accuracies_are_compared_on_the_same_images() -> None:
    rng = np.random.default_rng(0)
    images = rng.random(5000)

    def answered(method: str, latency_ms: float, accuracy: float) -> Result:
        right = images < accuracy
        result = complete(method, latency_ms, float(right.mean()))
        return result.model_copy(update={"outcomes": Outcomes.of_images(right)})

    results = [answered("a", 10.0, 0.905), answered("b", 11.0, 0.897)]

    first, second = only_section(results, seeds=[0]).rows

    assert second.behind is not None
    assert second.behind.high < 0, "the same images are wrong, and 40 more: each interval alone is wider than the gap"
    assert second.accuracy.high > first.accuracy.low


def test_the_interval_of_an_accuracy_is_never_empty_and_never_beyond_1() -> None:
    right = np.ones(359, dtype=bool)
    result = complete("a", 10.0, 1.0).model_copy(update={"outcomes": Outcomes.of_images(right)})

    (row,) = only_section([result], seeds=[0]).rows

    assert row.accuracy.high == 1.0
    assert 0.98 < row.accuracy.low < 0.995


def test_a_method_leads_at_equal_accuracy_over_all_targets() -> None:
    results = [dense(20.0, 0.95)]
    for target, accuracy, ours, theirs in (("0.5x", 0.94, 10.0, 13.0), ("0.25x", 0.92, 6.0, 7.8)):
        flops = 990 if target == "0.5x" else 495
        results += [
            complete("hdap", ours, accuracy, target=target, flops=flops),
            complete("uniform", theirs, accuracy, target=target, flops=flops),
        ]

    (leads,) = board(without_devices(results), spec=SPEC | {"seeds": [0]}).leads
    (row,) = leads.rows

    assert (leads.reference, leads.cost, row.label, row.n_targets) == ("uniform", "latency", "hdap", 2)
    assert row.lead is not None
    assert row.accuracies == pytest.approx((0.92, 0.95))
    assert 0.1 < row.lead.value < 0.3, "30 % between the targets, nothing at the dense model"


def test_what_should_be_known_first_is_said() -> None:
    chance = dense(20.0, 0.12).model_copy(update={"notes": {"n_classes": 10}})

    found = board([chance, complete("a", 10.0, 0.11), complete("b", 10.1, 0.11)], spec=SPEC | {"seeds": [0]})

    assert any("near chance: 12.0% where guessing gives 10.0%" in said for said in found.warnings)
    assert any("One seed" in said for said in found.warnings)
    assert any("cannot be told apart in latency" in said for said in found.sections[0].warnings)


def test_a_detector_that_finds_nothing_is_said_to_and_its_lead_is_told_without_a_span() -> None:
    rows, scenes = [complete("hdap", 10.0, 0.0), complete("uniform", 12.0, 0.0)], {"name": "digit-scenes"}

    found = board([dense(20.0, 0.0), *rows], spec=SPEC | {"seeds": [0], "task": "detection", "data": scenes})

    assert any("finds next to nothing: mAP50-95 0.0%" in said for said in found.warnings)
    assert leads_sentence(found.leads[0]).startswith("Against uniform at equal accuracy of 0.0%: **hdap** is")


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

    assert [(section.target, section.rows[0].latency_ms.value) for section in found.sections] == [
        ("0.5x", pytest.approx(10.0)),
        ("0.25x", pytest.approx(5.0)),
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
