from __future__ import annotations

from pathlib import Path

from hdapbench.leaderboard.board import Leaderboard
from hdapbench.method.registry import MethodRegistry
from hdapbench.plan import Plan
from hdapbench.render.table import ranking_columns
from hdapbench.run.grid import plan_trials
from hdapbench.spec import load
from hdapbench.testing.store_contract import example_metrics, example_result
from hdapbench.trial import DENSE, BitMetrics, Result
from tests.boards import SPEC, board, trial

SIZED = SPEC | {"targets": [{"size": "0.5x"}], "seeds": [0]}
ROOT = Path(__file__).parents[2]


def stored(
    method: str,
    stored_bytes: int | None,
    weight_bytes: int,
    *,
    accuracy: float,
    ms: float = 20.0,
    target: str = "0.5x size",
    **parameters: str,
) -> Result:
    bits = BitMetrics(
        weight_bytes=weight_bytes,
        packed_bytes=weight_bytes + 3000,
        bit_operations=1e6,
        mpic_cycles=2e5,
        ne16_cycles=1e5,
        channels_at_bits={4: 8},
        integer_accuracy=accuracy,
        argmax_differences=0,
        n_compared=100,
        stored_bytes=stored_bytes,
    )
    metrics = example_metrics(latency_ms=ms, accuracy=accuracy, flops=2000)
    metrics = metrics.model_copy(update={"bits": bits, "target_share": 0.9, "flops_target": 2000})
    result = example_result(trial(method, spec=SIZED, target=target, parameters=parameters), metrics=metrics)
    return result.model_copy(update={"plan": Plan(kept={"conv": tuple(range(round(ms * 10)))})})


def sized(*results: Result) -> Leaderboard:
    metrics = example_metrics(latency_ms=20.0, accuracy=0.95, flops=2000).model_copy(update={"flops_target": None})
    return board([example_result(trial(DENSE, spec=SIZED), metrics=metrics), *results], spec=SIZED)


def titles(found: Leaderboard) -> list[str]:
    return [column.title for column in ranking_columns(found, found.sections[0])]


def test_fronts_and_leads_go_by_what_is_stored_and_not_by_weights_alone() -> None:
    found = sized(stored("wide", 9_000, 2_000, accuracy=0.9), stored("narrow", 4_500, 3_000, accuracy=0.9))

    assert [row.label for _, row, _ in found.front("nx")] == ["narrow", "wide"]
    (leads,) = found.leads
    (lead,) = leads.rows
    assert (leads.cost, leads.reference) == ("stored", "narrow" if lead.label == "wide" else "wide")
    assert abs(lead.lead.value - (1.0 if lead.label == "narrow" else -0.5)) < 1e-9


def test_latencies_that_are_all_the_dense_models_are_no_columns() -> None:
    same = sized(stored("w4", 9_000, 2_000, accuracy=0.9), stored("w2", 4_500, 1_000, accuracy=0.9))
    pruned = sized(stored("w4", 9_000, 2_000, accuracy=0.9), stored("joint", 4_500, 1_000, accuracy=0.9, ms=12.0))

    assert {"ms", "speed-up"}.isdisjoint(titles(same))
    assert {"ms", "speed-up", "stored (kB)"} <= set(titles(pruned))


def test_results_of_before_bytes_were_counted_are_on_the_board_and_on_no_front() -> None:
    found = sized(stored("old", None, 2_000, accuracy=0.9), stored("new", 4_500, 3_000, accuracy=0.8))

    assert [row.label for row in found.sections[0].rows] == ["old", "new"]
    assert [row.label for _, row, _ in found.front("nx")] == ["new"]
    assert found.leads == ()


def test_ids_name_what_a_limit_on_size_counts_and_those_of_other_limits_stay() -> None:
    changes = ["targets=[{size: 0.5x}, {cycles: 0.7x, core: ne16}, {size: 0.5x, ram: 64kB}]", "methods=[joint-mpq]"]
    trials = plan_trials(load(str(ROOT / "specs/resnet6-digits-joint.yaml"), changes), MethodRegistry())
    of_size = [found for found in trials if "size" in str(found.target)]
    others = [found for found in trials if found not in of_size]

    assert of_size
    assert others
    assert all(found.model_dump()["size_of"] == "stored" for found in of_size)
    assert not any("size_of" in found.model_dump() for found in others)
    assert {found.model_copy(update={"size_of": None}).id for found in of_size}.isdisjoint(f.id for f in of_size)


def test_leads_are_against_the_variant_that_has_a_front_and_not_against_one_that_is_a_point() -> None:
    found = sized(
        stored("joint-mpq", 9_000, 8_000, accuracy=0.95, target="1x size", choose="fixed"),
        stored("joint-mpq", 4_500, 3_000, accuracy=0.95, choose="joint"),
        stored("joint-mpq", 2_500, 1_000, accuracy=0.9, target="0.3x size", choose="joint"),
    )

    (leads,) = found.leads

    assert leads.reference == "joint-mpq (joint)"
