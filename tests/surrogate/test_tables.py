from __future__ import annotations

import numpy as np
import pytest

from hdapbench.bench.limit import Limit
from hdapbench.spec import BudgetSpec
from hdapbench.surrogate.fitted import fitted_latency, spread_plans
from hdapbench.surrogate.table import GroupTable, multiples_below
from hdapbench.testing import RecordingProblem, tiny_problem, tiny_workbench


def test_a_table_holds_the_latency_of_one_group_changed_at_a_time() -> None:
    asked: list[np.ndarray] = []

    def latency_of(widths: np.ndarray) -> np.ndarray:
        asked.append(widths)
        return np.asarray(widths @ [1.0, 10.0])

    table = GroupTable.around(np.array([8, 4]), [np.array([2, 4, 8]), np.array([1, 4])], latency_of)

    assert table.current_ms == 48
    assert [latency.tolist() for latency in table.latency_ms] == [[42, 44, 48], [18, 48]]
    assert len(asked) == 1  # one session: all entries share the devices' state
    assert len(asked[0]) == 4  # no plan is asked for twice


@pytest.mark.parametrize(
    ("width", "step", "expected"),
    [(16, 4, [4, 8, 12, 16]), (15, 4, [4, 8, 12, 15]), (3, 4, [3]), (16, 0, [16]), (1, 1, [1])],
)
def test_choices_are_multiples_of_the_bundle_and_the_current_width(width: int, step: int, expected: list[int]) -> None:
    assert multiples_below(width, step).tolist() == expected


def test_plans_to_measure_spread_around_the_target_and_end_with_the_dense_model() -> None:
    problem = tiny_problem("residual")

    plans = spread_plans(problem.cost, problem.target_flops, 40, np.random.default_rng(0))

    share = problem.cost.flops(plans) / problem.target_flops
    assert plans.shape == (40, len(problem.cost.sizes))
    assert (plans[-1] == problem.cost.sizes).all()
    assert share[:-1].min() < 0.8
    assert 1.1 < share[:-1].max() <= 1.5


def test_fitted_latency_averages_devices_by_their_weight() -> None:
    problem = tiny_problem("residual")
    plans = spread_plans(problem.cost, problem.target_flops, 60, np.random.default_rng(0))
    slow = 1.0 + problem.cost.flops(plans) / problem.cost.dense.flops

    predict = fitted_latency(
        problem.devices.kernels, plans, np.stack([slow, 3 * slow], axis=1), weights=np.array([0.75, 0.25]), name="nnls"
    )

    assert predict(plans) == pytest.approx(1.5 * slow, rel=0.02)


def test_one_cluster_is_asked_for_one_query_per_plan_and_answers_as_its_representative() -> None:
    problem = tiny_problem("residual")
    fingerprint = 36
    n_clusters = len(problem.devices.cluster_weights)
    plans = np.stack([problem.cost.sizes] * 4)

    alone = problem.latency(plans, cluster=problem.devices.nominal_cluster)

    assert alone.shape == (4, 1)
    assert problem.budget.spent.device_queries == fingerprint + 4
    everywhere = problem.latency(plans)
    assert everywhere.shape == (4, n_clusters)
    assert problem.devices.cluster_weights[problem.devices.nominal_cluster] == problem.devices.cluster_weights.max()
    clusters = tiny_workbench("residual").measurer.clusters
    device = int(clusters.clustering.ranked[problem.devices.nominal_cluster][0])
    # The same device in another session: noise and drift of about a percent each.
    assert clusters.fingerprint_ms[device].mean() > 0
    assert np.median(alone) == pytest.approx(np.median(everywhere[:, problem.devices.nominal_cluster]), rel=0.1)


def test_the_budget_counts_one_device_where_only_one_is_asked() -> None:
    problem = RecordingProblem(tiny_workbench("plain"), Limit.on_flops(1), budget=BudgetSpec(device_queries=36 + 5))

    problem.latency(np.stack([problem.cost.sizes] * 5), cluster=0)

    assert problem.budget.remaining("device_queries") == 0
