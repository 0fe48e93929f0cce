"""What each part of HDAP brings to latency, and how fast ResNet50 becomes at 1.0 G FLOPs.

    python -m studies.ablation [speedup | ablation] [--seeds 3] [--check]

Writes the tables in docs/hdap.md: about an hour on one core. ``--check`` runs one seed of a small part and writes nothing.
Every method runs as a trial would, through the common contract, on simulated fleets of 300 devices in 10 clusters; its plan
is then judged by the noise-free mean over all devices. There are no weights to download, so models are untrained and
importance is drawn at random: these tables speak of latency at equal importance, not of accuracy.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
from hdapbench_methods.halp import Halp
from hdapbench_methods.hdap import Hdap
from hdapbench_methods.hdap.importance import importance_table
from hdapbench_methods.magnitude import Magnitude
from hdapbench_methods.uniform import Uniform

from hdapbench.arrays import Floats, Integers
from hdapbench.bench.limit import Limit
from hdapbench.bench.workbench import Workbench
from hdapbench.fleet.local.fleet import LocalFleet
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from hdapbench.method import Method, Plan, Problem
from hdapbench.search import TableObjective, solve_exact
from hdapbench.testing import RecordingProblem, tiny_workbench
from studies.objectives import FleetMean, NominalBoard
from studies.subjects import MODELS, drawn_scores, network, simulated_fleet, space_beside_uniform, target_flops
from studies.tables import options, publish, spread

PUBLISHED = 2.86
"""Average speed-up of ResNet50 at 1.0 G FLOPs on Xavier NX: arXiv 2501.15240, abstract."""
SKUS, SCENARIOS, PRECISIONS = ("xavier_nx", "nano"), ("same_config", "mixed", "harsh"), ("fp32", "fp16")
CONTENTION: dict[str, Any] = {
    "base": "same_config",
    "busy_share": 0.5,
    "gpu_load": [0.0, 0.0],
    "memory_load": [0.6, 0.72],
}
"""Half the devices lose two thirds of their DRAM bandwidth to others: memory times rise about threefold."""
GENERATIONS: dict[str, Any] = {"base": "mixed", "stacks": [{"share": 0.5, "narrow_tile_factor": 4.0}]}
"""Half the devices run an engine whose narrow tiles are wider: other widths are fast there."""
FLEETS: dict[str, Any] = {"mixed": "mixed", "DRAM contention on half": CONTENTION, "two engines": GENERATIONS}
EQUAL: dict[str, Any] = {
    "guard": "uniform",
    "guard_levels": (1.0,),
    "choice": "guard",
    "criterion": "fisher",
    "reconstruct": False,
}
"""All plans keep at least the importance of uniform pruning (drawn scores are added, as Fisher ones are), and the fastest is
taken: latency alone is compared."""


class DrawnProblem(RecordingProblem):
    """A problem whose importance is drawn at random: one gamma distribution per channel, a factor per group."""

    def importance(self, criterion: str, *, model: object = None, n_images: int = 0) -> dict[str, Floats]:  # noqa: ARG002
        """The same scores for every criterion."""
        scores = drawn_scores(self.cost.sizes, np.random.default_rng([self.training.seed, 1]))
        return dict(zip(self.groups, scores, strict=True))


def drawn_taylor(problem: Problem, plan: Plan | None, n_images: int) -> dict[str, Floats]:  # noqa: ARG001
    """What halp takes for gradients of batch norms: the drawn scores, zero where a plan removed the channel."""
    scores = problem.importance("drawn")
    if plan is not None:
        for name, kept in plan.kept.items():
            mask = np.zeros(len(scores[name]))
            mask[list(kept)] = 1.0
            scores[name] = scores[name] * mask
    return scores


def workbench(model: str, fleet: SimulatedFleet | LocalFleet) -> Workbench:
    """An untrained model on a fleet; data and recipe are those of a tiny one."""
    spec = fleet.spec
    return replace(
        tiny_workbench("plain"), network=network(model), fleet=fleet, clustering=spec.clustering, runs=spec.runs
    )


def planned_widths(method: Method, problem: Problem) -> tuple[int, ...]:
    """Widths of a method's plan, one per group; gradients of batch norms are drawn too."""
    with patch("hdapbench_methods.halp.bn_taylor", drawn_taylor):
        return method.compress(problem).widths(list(problem.groups))


@dataclass(frozen=True)
class World:
    """A model, a fleet, and what is asked of both."""

    model: str
    fleet: SimulatedFleet
    seed: int

    @classmethod
    def of(
        cls, model: str, seed: int, *, sku: str = "xavier_nx", scenario: Any = "mixed", precision: str = "fp32"
    ) -> World:
        """World whose fleet, noise and importance follow from the seed."""
        clustering = {"method": "kmeans", "n_clusters": 10}
        spec = {"sku": sku, "scenario": scenario, "n_devices": 300, "precision": precision, "clustering": clustering}
        return cls(model, simulated_fleet(**spec, seed=seed), seed)

    def problem(self) -> Problem:
        """What a method is given; no limits."""
        limit = Limit.on_flops(target_flops(self.model))
        return DrawnProblem(workbench(self.model, self.fleet), limit, seed=self.seed)

    def widths(self, method: Method) -> tuple[Integers, Problem]:
        """Widths of a method's plan, and the problem afterwards."""
        problem = self.problem()
        return np.array(planned_widths(method, problem), dtype=np.int64), problem

    def mean_ms(self, widths: Integers) -> float:
        """Noise-free mean latency of all devices."""
        return float(FleetMean(self.fleet, network(self.model).kernels)(widths[None])[0])

    def best(self, *, nominal: bool = False) -> Integers:
        """The exact optimum of the fleet's true mean, keeping uniform pruning's importance: what no method can beat.

        With ``nominal``, that of the nominal board's true latency: what knowing one device perfectly gives.
        """
        problem, kernels = self.problem(), network(self.model).kernels
        # The same importance as the method's: what a group loses counts with its square.
        importance = importance_table(list(problem.groups), problem.importance("drawn"), "fisher")
        objective: TableObjective = FleetMean(self.fleet, kernels)
        if nominal:
            objective = NominalBoard(kernels, self.fleet.profile, self.fleet.spec.precision)
        space, uniform = space_beside_uniform(problem.cost, target_flops(self.model), objective, importance)
        return solve_exact(space, start=uniform[None]).widths


def hdap(**changes: Any) -> Hdap:
    """HDAP at the importance of uniform pruning, with some parameters changed."""
    return Hdap.model_validate(EQUAL | changes)


def speedup_methods() -> Mapping[str, Method]:
    """Rows of the table of speed-ups."""
    return {
        "uniform": Uniform(),
        "magnitude, global": Magnitude(scope="global"),
        "halp, one device": Halp(n_images=1),
        "halp, fleet": Halp(n_images=1, fleet=True),
        "hdap, paper": hdap(preset="paper", iterations=1),
        "hdap": hdap(),
        "hdap, FLOPs used up": hdap(least_flops_share=0.98),
    }


def speedup_table(n_seeds: int, *, check: bool) -> Iterator[str]:
    """Markdown of ResNet50's speed-up over the dense model at 1.0 G FLOPs."""
    methods = speedup_methods()
    yield f"| fleet | dense (ms) | {' | '.join(methods)} |"
    yield "|---|--:" + "|--:" * len(methods) + "|"
    fleets = [(sku, scenario, precision) for sku in SKUS for scenario in SCENARIOS for precision in PRECISIONS]
    for sku, scenario, precision in fleets[:1] if check else fleets:
        dense, ratios = [], {name: [] for name in methods}
        for seed in range(n_seeds):
            here = World.of("ResNet50", seed, sku=sku, scenario=scenario, precision=precision)
            dense.append(here.mean_ms(network("ResNet50").cost.sizes))
            for name, method in methods.items():
                widths, _ = here.widths(method)
                assert network("ResNet50").cost.flops(widths)[0] <= target_flops("ResNet50")
                ratios[name].append(dense[-1] / here.mean_ms(widths))
        cells = [spread(values, ".2f") for values in ratios.values()]
        yield f"| {sku}, {scenario}, {precision} | {np.mean(dense):.1f} | {' | '.join(cells)} |"
    yield ""
    yield f"Published for Xavier NX fleets: {PUBLISHED:.2f}x."


ABLATIONS: dict[str, dict[str, Any]] = {
    "hdap": {},
    "one cluster": {"devices": "one_cluster"},
    "one nominal device": {"devices": "nominal"},
    "ratios instead of kernel features (gbrt)": {"surrogate": "gbrt-on-ratios", "evaluations": 3000},
    "no active rounds, as many plans": {"active_plans": 0, "n_plans": 128},
    "genetic search": {"searcher": "genetic", "evaluations": 3000},
    "ncs": {"searcher": "ncs", "evaluations": 3000},
    "random search": {"searcher": "random", "evaluations": 3000},
    "FLOPs instead of latency": {"goal": "flops"},
    "public recipe": {"preset": "paper", "iterations": 1},
}


def ablation_table(n_seeds: int, *, check: bool) -> Iterator[str]:
    """Markdown of the latency lost without each part: over the best possible, in percent."""
    yield f"| network | variant | {' | '.join(f'{name}' for name in FLEETS)} | plans measured | devices |"
    yield "|---|---|" + "--:|" * (len(FLEETS) + 2)
    for model in ("MobileNetV1",) if check else MODELS:
        for name, changes in ABLATIONS.items():
            cells, spent = [], []
            for scenario in FLEETS.values():
                lost = []
                for seed in range(n_seeds):
                    here = World.of(model, seed, scenario=scenario)
                    widths, problem = here.widths(hdap(**changes))
                    lost.append(here.mean_ms(widths) / best_ms(model, seed, str(scenario)) - 1.0)
                    spent.append(problem.budget.spent.device_queries)
                cells.append(spread(lost, "+.1%"))
            yield f"| {model} | {name} | {' | '.join(cells)} | {np.mean(spent):,.0f} queries | {changes.get('devices', 'fleet')} |"
        others = {
            "the nominal board, known exactly": lambda here: here.best(nominal=True),
            "uniform pruning": lambda here: here.widths(Uniform())[0],
        }
        for name, widths_in in others.items():
            cells = []
            for scenario in FLEETS.values():
                worlds = [World.of(model, seed, scenario=scenario) for seed in range(n_seeds)]
                lost = [
                    here.mean_ms(widths_in(here)) / best_ms(model, here.seed, str(scenario)) - 1.0 for here in worlds
                ]
                cells.append(spread(lost, "+.1%"))
            yield f"| {model} | {name} | {' | '.join(cells)} | | |"


@cache
def best_ms(model: str, seed: int, scenario: str) -> float:
    """Mean latency of the exact optimum of a world."""
    given = next(value for value in FLEETS.values() if str(value) == scenario)
    here = World.of(model, seed, scenario=given)
    return here.mean_ms(here.best())


def main() -> int:
    """Run the parts of the study that were asked for; 0."""
    tables = {"speedup": speedup_table, "ablation": ablation_table}
    parser = options(__doc__, check="one seed of a small part; prints and writes nothing")
    parser.add_argument("parts", nargs="*", choices=[*tables, []], help="default: all")
    parser.add_argument("--seeds", type=int, default=3, help="worlds per cell (default %(default)s)")
    arguments = parser.parse_args()
    for part in arguments.parts or tables:
        started = time.monotonic()
        lines = tables[part](1 if arguments.check else arguments.seeds, check=arguments.check)
        publish("hdap.md", "ablation", part, lines, check=arguments.check)
        print(f"{part}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
