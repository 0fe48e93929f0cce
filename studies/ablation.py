"""What each part of HDAP brings to latency, and how fast ResNet50 becomes at 1.0 G FLOPs.

    python -m studies.ablation [speedup | ablation] [--seeds 3] [--check]

Writes the tables in docs/hdap.md: about an hour on one core. ``--check`` runs one seed of a small part and writes nothing.
Every method runs as a trial would, through the common contract, on simulated fleets of 300 devices in 10 clusters; its plan
is then judged by the noise-free mean over all devices. There are no weights to download, so models are untrained and
importance is drawn at random: these tables speak of latency at equal importance, not of accuracy.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from hdapbench_methods.halp import Halp
from hdapbench_methods.hdap import Hdap
from hdapbench_methods.magnitude import Magnitude
from hdapbench_methods.uniform import Uniform

from hdapbench.arrays import Floats, Integers
from hdapbench.bench.limit import Limit
from hdapbench.bench.network import Network
from hdapbench.cost.target import fill, largest_share, widths_at_share
from hdapbench.fleet.open import open_fleet
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from hdapbench.method import Method, Plan, Problem
from hdapbench.search import AdditiveImportance, SearchSpace, TableObjective, solve_exact
from hdapbench.spec import SimulatedFleetSpec
from hdapbench.testing import RecordingProblem, tiny_workbench
from studies.objectives import FleetMean, NominalBoard
from studies.tables import spread, write

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "hdap.md"
MODELS = {"ResNet50": "torchvision:resnet50", "MobileNetV1": "mobilenetv1"}
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


@cache
def network(name: str) -> Network:
    """An untrained model at 224 x 224, traced."""
    from hdapbench.bench.network import trace
    from hdapbench.models import build_model
    from hdapbench.spec import ModelSpec

    spec = ModelSpec(name=MODELS[name], input_shape=(3, 224, 224))
    return trace(build_model(spec, n_classes=1000, base_dir=ROOT).eval(), (3, 224, 224))


class DrawnProblem(RecordingProblem):
    """A problem whose importance is drawn at random: one gamma distribution per channel, a factor per group."""

    def importance(self, criterion: str, *, model: object = None, n_images: int = 0) -> dict[str, Floats]:  # noqa: ARG002
        """The same scores for every criterion."""
        rng = np.random.default_rng([self.training.seed, 1])
        return {
            name: rng.gamma(2.0, 1.0, size) * np.exp(0.5 * rng.standard_normal()) / np.sqrt(size)
            for name, size in zip(self.groups, self.cost.sizes, strict=True)
        }


def drawn_taylor(problem: Problem, plan: Plan | None, n_images: int) -> dict[str, Floats]:  # noqa: ARG001
    """What halp takes for gradients of batch norms: the drawn scores, zero where a plan removed the channel."""
    scores = problem.importance("drawn")
    if plan is not None:
        for name, kept in plan.kept.items():
            mask = np.zeros(len(scores[name]))
            mask[list(kept)] = 1.0
            scores[name] = scores[name] * mask
    return scores


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
        spec = {"name": "f", "kind": "simulated", "sku": sku, "scenario": scenario, "n_devices": 300, "seed": seed}
        spec |= {"precision": precision, "clustering": {"method": "kmeans", "n_clusters": 10}}
        fleet = open_fleet(SimulatedFleetSpec.model_validate(spec))
        assert isinstance(fleet, SimulatedFleet)
        return cls(model, fleet, seed)

    @property
    def target_flops(self) -> int:
        """1.0 G for ResNet50, half of all for the others."""
        return 10**9 if self.model == "ResNet50" else network(self.model).cost.dense.flops // 2

    def problem(self) -> Problem:
        """What a method is given; no limits."""
        bench = replace(
            tiny_workbench("plain"),
            network=network(self.model),
            fleet=self.fleet,
            clustering=self.fleet.spec.clustering,
            runs=self.fleet.spec.runs,
        )
        return DrawnProblem(bench, Limit.on_flops(self.target_flops), seed=self.seed)

    def widths(self, method: Method) -> tuple[Integers, Problem]:
        """Widths of a method's plan, and the problem afterwards."""
        problem = self.problem()
        with patch("hdapbench_methods.halp.bn_taylor", drawn_taylor):
            plan = method.compress(problem)
        return np.array(plan.widths(list(problem.groups)), dtype=np.int64), problem

    def mean_ms(self, widths: Integers) -> float:
        """Noise-free mean latency of all devices."""
        return float(FleetMean(self.fleet, network(self.model).kernels)(widths[None])[0])

    def best(self, *, nominal: bool = False) -> Integers:
        """The exact optimum of the fleet's true mean, keeping uniform pruning's importance: what no method can beat.

        With ``nominal``, that of the nominal board's true latency: what knowing one device perfectly gives.
        """
        cost, problem = network(self.model).cost, self.problem()
        uniform = fill(cost, widths_at_share(cost, largest_share(cost, self.target_flops)), self.target_flops)
        scores = problem.importance("drawn")
        # The same importance as the method's: what a group loses counts with its square.
        from hdapbench_methods.hdap.importance import importance_table

        importance: AdditiveImportance = importance_table(list(problem.groups), scores, "fisher")
        kernels = network(self.model).kernels
        objective: TableObjective = FleetMean(self.fleet, kernels)
        if nominal:
            objective = NominalBoard(kernels, self.fleet.profile, self.fleet.spec.precision)
        space = SearchSpace(
            cost=cost,
            target_flops=self.target_flops,
            objective=objective,
            retained=importance,
            least_retained=float(importance(uniform)[0]),
        )
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
                assert network("ResNet50").cost.flops(widths)[0] <= here.target_flops
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


def main(argv: list[str] | None = None) -> int:
    """Run the parts of the study that were asked for; 0."""
    tables = {"speedup": speedup_table, "ablation": ablation_table}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*tables, []], help="default: all")
    parser.add_argument("--seeds", type=int, default=3, help="worlds per cell (default %(default)s)")
    parser.add_argument("--check", action="store_true", help="one seed of a small part; prints and writes nothing")
    arguments = parser.parse_args(argv)
    for part in arguments.parts or tables:
        lines, started = [], time.monotonic()
        for line in tables[part](1 if arguments.check else arguments.seeds, check=arguments.check):
            print(line, flush=True)
            lines.append(line)
        print(f"{part}: {time.monotonic() - started:.0f} s", file=sys.stderr)
        if not arguments.check:
            write(DOCS, "ablation", part, "\n".join(lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
