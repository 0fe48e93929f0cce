"""What a predicted candidate costs, against pruning and running it, and what a search costs per evaluation."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from hdapbench.cost.target import fill, largest_share, repair, widths_at_share
from hdapbench.fleet.base import Workloads
from hdapbench.fleet.open import open_fleet
from hdapbench.latency.kinds import fit_surrogate
from hdapbench.latency.measured import MeasuredPlans
from hdapbench.latency.surrogate import Surrogate
from hdapbench.models import build_model
from hdapbench.network import Network, trace
from hdapbench.plan import Plan
from hdapbench.prune.surgery import apply_plan
from hdapbench.search import SearchSpace, minimise
from hdapbench.spec import ModelSpec, SimulatedFleetSpec

N_CLUSTERS = 8
N_CANDIDATES = 10_000
LEAST_TIMES_FASTER = 1000.0
MOST_TIMES_PREDICTION = 400.0
"""Most that a search may take, relative to predicting as many plans in one batch; 20 to 80 measured."""


@dataclass(frozen=True)
class World:
    """ResNet56, measured on eight simulated boards, with a surrogate for each."""

    network: Network
    surrogate: Surrogate | None

    def predict(self, widths: np.ndarray) -> np.ndarray:
        """Average latency in ms, shape (n_plans,)."""
        assert self.surrogate is not None
        return self.surrogate.predict_average(widths)

    @property
    def target_flops(self) -> int:
        return self.network.cost.dense.flops // 2

    def candidates(self, n_plans: int) -> np.ndarray:
        """Random widths under the target, shape (n_plans, n_groups)."""
        cost = self.network.cost
        shares = np.random.default_rng(1).uniform(0.1, 1.0, size=(n_plans, len(cost.sizes)))
        return repair(cost, widths_at_share(cost, shares), self.target_flops)


@cache
def world() -> World:
    torch.manual_seed(0)
    spec = ModelSpec(name="resnet56", input_shape=(3, 32, 32))
    network = trace(build_model(spec, n_classes=10, base_dir=Path()).eval(), (3, 32, 32))
    fleet = open_fleet(
        SimulatedFleetSpec(
            name="f", kind="simulated", sku="nano", scenario="mixed", n_devices=N_CLUSTERS, seed=1, runs=5
        )
    )
    untrained = World(network, None)
    widths = untrained.candidates(80)
    workloads = Workloads(network.kernels, widths, tuple(f"w{number}" for number in range(len(widths))))
    measured = np.median(fleet.measure(workloads, np.arange(N_CLUSTERS), runs=5, seed=0), axis=2)
    plans = MeasuredPlans(network.kernels, widths, measured.T, np.full(N_CLUSTERS, 1 / N_CLUSTERS))
    return World(network, fit_surrogate("ridge", plans))


def test_a_predicted_candidate_is_a_thousand_times_cheaper_than_a_pruned_and_run_one(benchmark) -> None:  # type: ignore[no-untyped-def]
    here = world()
    widths = here.candidates(N_CANDIDATES)

    def physically(row: np.ndarray) -> None:
        kept = {name: tuple(range(width)) for name, width in zip(here.network.cost.groups, row.tolist(), strict=True)}
        model = apply_plan(here.network.model, here.network.group_set, Plan(kept=kept))
        with torch.inference_mode():
            for _ in range(5):  # repeats of one measurement
                model(torch.zeros(1, 3, 32, 32))

    predicted = benchmark.pedantic(lambda: here.predict(widths), rounds=5, warmup_rounds=1)
    start = time.perf_counter()
    for row in widths[:5]:
        physically(row)
    physical_seconds = (time.perf_counter() - start) / 5
    predicted_seconds = benchmark.stats.stats.min / N_CANDIDATES

    benchmark.extra_info["candidates_per_second"] = round(1 / predicted_seconds)
    benchmark.extra_info["times_faster"] = round(physical_seconds / predicted_seconds)
    assert predicted.shape == (N_CANDIDATES,)
    assert physical_seconds / predicted_seconds > LEAST_TIMES_FASTER


@pytest.mark.parametrize("algorithm", ["genetic", "ncs", "random"])
def test_a_search_costs_little_more_than_its_predictions(benchmark, algorithm: str) -> None:  # type: ignore[no-untyped-def]
    here = world()
    cost = here.network.cost
    space = SearchSpace(cost=cost, target_flops=here.target_flops, objective=here.predict)
    uniform = fill(cost, widths_at_share(cost, largest_share(cost, here.target_flops)), here.target_flops)

    found = benchmark.pedantic(
        lambda: minimise(
            space,
            start=uniform[None],
            n_evaluations=N_CANDIDATES,
            rng=np.random.default_rng(0),
            algorithm=algorithm,  # type: ignore[arg-type]
        ),
        rounds=1,
    )

    candidates = here.candidates(N_CANDIDATES)
    start = time.perf_counter()
    here.predict(candidates)
    predicting = time.perf_counter() - start
    benchmark.extra_info["times_prediction"] = round(benchmark.stats.stats.min / predicting, 1)
    benchmark.extra_info["relative_to_uniform"] = round(float(found.value / here.predict(uniform[None])[0]), 4)
    assert found.n_evaluations <= N_CANDIDATES + 16
    assert benchmark.stats.stats.min < MOST_TIMES_PREDICTION * predicting
