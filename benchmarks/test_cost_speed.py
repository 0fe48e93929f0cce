"""Costs in closed form: 10,000 plans at once, and against pruning the model to count, in processor time of one thread."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from hdapbench.bench.network import Network
from hdapbench.plan import Plan
from hdapbench.prune.surgery import apply_plan
from studies.search_speed import seconds
from tests.zoo import needs_yolo, traced

N_PLANS = 10_000
LEAST_SPEEDUP = 1_000

# Name, side of the input, and the seconds that a numpy prototype took for 10,000 plans on four quiet cores.
NETWORKS = [
    pytest.param("torchvision:resnet50", 224, 0.112, id="resnet50"),
    pytest.param("resnet56", 32, 0.012, id="resnet56"),
    pytest.param("mobilenetv1", 224, 0.005, id="mobilenetv1"),
    pytest.param("ultralytics:yolov8n.yaml", 640, 0.011, id="yolov8n", marks=needs_yolo),
]
LATER = [
    pytest.param("torchvision:vit_b_16", 224, None, id="vit_b_16"),
    pytest.param("torchvision:swin_t", 224, None, id="swin_t"),
    pytest.param("torchvision:convnext_tiny", 224, None, id="convnext_tiny"),
    pytest.param("ultralytics:yolo11n.yaml", 640, None, id="yolo11n", marks=needs_yolo),
]
"""Networks that no prototype was written for."""


def random_widths(net: Network) -> np.ndarray:
    """Widths of random plans, shape (n_plans, n_groups)."""
    return np.random.default_rng(0).integers(1, net.cost.sizes + 1, size=(N_PLANS, len(net.cost.sizes)))


def prune_and_count(net: Network, widths: np.ndarray) -> int:
    """Parameters of a physically pruned model: the least that counting without a closed form takes."""
    kept = {name: tuple(range(width)) for name, width in zip(net.cost.groups, widths.tolist(), strict=True)}
    compact = apply_plan(net.model, net.group_set, Plan(kept=kept))
    return sum(parameter.numel() for parameter in compact.parameters())


@pytest.mark.parametrize(("name", "side", "prototype_seconds"), NETWORKS)
def test_ten_thousand_plans_at_once_beside_the_prototype(benchmark, name, side, prototype_seconds):
    net = traced(name, (3, side, side))
    widths = random_widths(net)

    benchmark.pedantic(net.cost.evaluate, args=(widths,), rounds=10, warmup_rounds=1)

    # A time on one machine, so it is recorded and not asserted: above 1 we are faster.
    benchmark.extra_info["prototype_over_ours"] = round(prototype_seconds / benchmark.stats.stats.min, 1)
    assert (net.cost.evaluate(widths).flops > 0).all()


@pytest.mark.parametrize(("name", "side", "_"), [*NETWORKS, *LATER])
def test_the_closed_form_is_a_thousand_times_faster_than_pruning(benchmark, name, side, _):
    net = traced(name, (3, side, side))
    widths = random_widths(net)

    benchmark.pedantic(prune_and_count, args=(net, widths[0]), rounds=3)
    with threadpool_limits(1):
        pruning = seconds(lambda: prune_and_count(net, widths[0]), rounds=3)
        closed_form = seconds(lambda: net.cost.evaluate(widths), rounds=5) / N_PLANS

    assert net.cost.evaluate(widths[0]).params[0] == prune_and_count(net, widths[0])
    benchmark.extra_info["speedup"] = round(pruning / closed_form)
    assert pruning / closed_form >= LEAST_SPEEDUP


@pytest.mark.parametrize(("name", "side", "_"), NETWORKS)
def test_a_single_plan_is_far_cheaper_than_pruning_it(benchmark, name, side, _):
    net = traced(name, (3, side, side))
    widths = random_widths(net)[0]

    benchmark.pedantic(net.cost.flops, args=(widths,), rounds=200, warmup_rounds=5)

    with threadpool_limits(1):
        pruning = seconds(lambda: prune_and_count(net, widths), rounds=3)
        alone = seconds(lambda: [net.cost.flops(widths) for _ in range(10)], rounds=20) / 10
    assert pruning / alone > 100
