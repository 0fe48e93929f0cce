"""What candidates cost: predicted in batches, pruned and run, and proposed by searchers; tables in docs/hdap.md.

    python -m studies.search_speed [--check]

Needs the extra cma; ``--check`` writes nothing. Seconds are processor time of one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import get_args

import numpy as np
import torch

from hdapbench.bench.network import Network
from hdapbench.cost.target import repair, widths_at_share
from hdapbench.plan import Plan
from hdapbench.prune.surgery import apply_plan
from hdapbench.search import AdditiveImportance, Algorithm, SearchResult, minimise
from hdapbench.surrogate.base import Surrogate
from hdapbench.surrogate.fit import fit_surrogate
from hdapbench.surrogate.measured import MeasuredPlans
from studies.subjects import network, simulated_fleet, space_beside_uniform
from studies.tables import options, publish

MODELS = {"resnet56": (3, 32, 32), "torchvision:resnet50": (3, 224, 224)}
N_CLUSTERS = 8
N_CANDIDATES = 10_000
N_PHYSICAL = 5
REPEATS = 5
"""Runs of a network in one measurement."""
EVALUATIONS = (1_000, 3_000, 10_000)
HEURISTICS = tuple(name for name in get_args(Algorithm) if name != "exact")


@dataclass(frozen=True)
class World:
    """A network, measured on eight simulated boards, and the surrogate of these measurements."""

    network: Network
    surrogate: Surrogate
    input_shape: tuple[int, int, int]

    def predict(self, widths: np.ndarray) -> np.ndarray:
        """Average latency in ms, shape (n_plans,)."""
        return self.surrogate.predict_average(widths)

    def run(self, widths: np.ndarray) -> None:
        """Prune the network to widths of shape (n_groups,) and run what is left, as one measurement does."""
        kept = {name: tuple(range(n)) for name, n in zip(self.network.cost.groups, widths.tolist(), strict=True)}
        model = apply_plan(self.network.model, self.network.group_set, Plan(kept=kept))
        with torch.inference_mode():
            for _ in range(REPEATS):
                model(torch.zeros(1, *self.input_shape))

    def search(self, algorithm: Algorithm, n_evaluations: int) -> SearchResult:
        """Least predicted latency at half of the FLOPs, with the importance of uniform pruning."""
        cost, target = self.network.cost, self.network.cost.dense.flops // 2
        rng = np.random.default_rng(0)
        importance = AdditiveImportance.of_scores([rng.gamma(2, 1, size) for size in cost.sizes])
        space, uniform = space_beside_uniform(cost, target, self.predict, importance)
        return minimise(space, start=uniform[None], n_evaluations=n_evaluations, rng=rng, algorithm=algorithm)


def candidates(network: Network, n_plans: int) -> np.ndarray:
    """Random widths at half of the FLOPs, shape (n_plans, n_groups)."""
    cost = network.cost
    shares = np.random.default_rng(1).uniform(0.1, 1.0, size=(n_plans, len(cost.sizes)))
    return repair(cost, widths_at_share(cost, shares), cost.dense.flops // 2)


@cache
def world(model: str = "resnet56") -> World:
    """A traced network and a surrogate of 80 measured plans."""
    traced = network(model, MODELS[model], n_classes=10)
    fleet = simulated_fleet(sku="nano", scenario="mixed", n_devices=N_CLUSTERS, runs=5, seed=1)
    widths = candidates(traced, 80)
    measured = np.median(fleet.measure(traced.workloads(widths), np.arange(N_CLUSTERS), runs=5, seed=0), axis=2)
    plans = MeasuredPlans(traced.kernels, widths, measured.T, np.full(N_CLUSTERS, 1 / N_CLUSTERS))
    return World(traced, fit_surrogate("nnls", plans), MODELS[model])


def seconds(work: Callable[[], object], *, rounds: int = 1) -> float:
    """Least processor time of some rounds: what others do on the machine does not count."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def prediction_seconds(here: World, n_plans: int = N_CANDIDATES) -> float:
    """Processor time per candidate that is predicted in one batch."""
    widths = candidates(here.network, n_plans)
    here.predict(widths)
    return seconds(lambda: here.predict(widths), rounds=5) / n_plans


def physical_seconds(here: World) -> float:
    """Processor time per candidate that is pruned and run."""
    widths = candidates(here.network, N_PHYSICAL)
    here.run(widths[0])
    return min(seconds(lambda row=row: here.run(row)) for row in widths)  # type: ignore[misc]


def candidate_table() -> str:
    """Markdown: one row per network."""
    lines = [
        "| network | predicted in one batch (candidates/s) | pruned and run (candidates/s) | times faster |",
        "|---|---|---|---|",
    ]
    for model in MODELS:
        predicted, physical = prediction_seconds(world(model)), physical_seconds(world(model))
        name = model.split(":")[-1]
        lines.append(f"| {name} | {1 / predicted:,.0f} | {1 / physical:.2f} | {physical / predicted:,.0f} |")
    return "\n".join(lines)


def search_table() -> str:
    """Markdown: seconds per searcher and number of evaluations, ResNet56."""
    heads = " | ".join(f"{n:,} evaluations (s)" for n in EVALUATIONS)
    lines = [f"| searcher | {heads} | evaluations/s |", "|---" * (len(EVALUATIONS) + 2) + "|"]
    for algorithm in HEURISTICS:
        world().search(algorithm, 50)  # imports what it needs
        times = [seconds(lambda n=n, a=algorithm: world().search(a, n)) for n in EVALUATIONS]  # type: ignore[misc]
        cells = " | ".join(f"{value:.1f}" for value in times)
        lines.append(f"| {algorithm} | {cells} | {EVALUATIONS[-1] / times[-1]:,.0f} |")
    return "\n".join(lines)


def main() -> int:
    """Print the tables and write them into the documentation; 0."""
    check = options(__doc__, check="print, write nothing").parse_args().check
    torch.set_num_threads(1)
    publish("hdap.md", "search_speed", "speed", [candidate_table(), "", search_table()], check=check)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
