"""What tests of methods ask for: problems on networks of the zoo, limits on bits, and what plans truly take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from torch import nn

from hdapbench.bench.limit import Limit
from hdapbench.bench.network import Network, trace
from hdapbench.bench.workbench import Workbench
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from hdapbench.method import Plan, Problem
from hdapbench.run.evaluate import compact, quantize, use_of
from hdapbench.spec import BudgetSpec, parse_target
from hdapbench.testing import SIDE, RecordingProblem, tiny_workbench
from tests.zoo import traced


@cache
def bench_of(name: str, side: int = SIDE) -> Workbench:
    """A network of the zoo on the tiny fleet and the tiny data."""
    return bench_on(traced(name, (3, side, side), n_classes=4))


def bench_on(network: Network | nn.Module, kind: str = "plain") -> Workbench:
    """Workbench of a tiny model, with another network."""
    shared = tiny_workbench(kind)  # type: ignore[arg-type]
    found = network if isinstance(network, Network) else trace(network.eval(), shared.network.input_shape)
    return replace(shared, network=found)


def problem_on(bench: Workbench, target: float = 0.5, **how: Any) -> RecordingProblem:
    """Problem under FLOPs relative to the dense model; ``how`` are seed, budget and on_progress."""
    return RecordingProblem(bench, Limit.on_flops(int(target * bench.network.cost.dense.flops)), **how)


def limited(target: str, model: str = "residual", **budget: float) -> RecordingProblem:
    """Problem on a tiny model under a target as specs have it, such as ``0.4x size``."""
    bench = tiny_workbench(model)  # type: ignore[arg-type]
    return RecordingProblem(bench, bench.limit(parse_target(target), seed=0), budget=BudgetSpec(**budget))


def share_used(plan: Plan, asked: Problem, model: str = "residual") -> float:
    """Share of a problem's limit that a plan needs: measured, or counted of the quantised model."""
    bench = tiny_workbench(model)  # type: ignore[arg-type]
    use = use_of(asked.limit, bench, quantize(bench, compact(bench, plan)), seed=0)
    assert use is not None
    return use.share


def widths_of(plan: Plan, problem: Problem) -> np.ndarray:
    """Channels that a plan keeps, shape (n_groups,)."""
    return np.array(plan.widths(list(problem.groups)))


def true_ms(bench: Workbench, widths: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Noise-free mean latency of plans over the tiny fleet, shape (n_plans,)."""
    assert isinstance(bench.fleet, SimulatedFleet)
    return bench.fleet.mean_latency_ms(bench.network.workloads(np.stack(widths)))


def share_of_uniform(plan: Plan, problem: Problem, bench: Workbench) -> float:
    """True latency of a plan, relative to that of uniform pruning to the same target."""
    uniform = problem.plan_by_importance(dict.fromkeys(problem.groups, problem.solve_ratio()), "l1")
    ours, rival = true_ms(bench, [widths_of(plan, problem), widths_of(uniform, problem)])
    return float(ours / rival)
