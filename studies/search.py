"""Searchers compared on five networks: the tables in docs/hdap.md.

    python -m studies.search [--check] [--seeds 1] [--models resnet50 ...]

Latency is the exact mean of a simulated fleet, so that searchers are compared and not surrogates. No weights are needed:
importance is drawn, once per network. Needs the extras yolo and cma; ``--check`` writes nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from hdapbench.bench.network import Network
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from hdapbench.search import AdditiveImportance, Algorithm, SearchSpace, minimise, solve_exact, why_not_exact
from studies.objectives import FleetMean
from studies.subjects import drawn_scores, network, simulated_fleet, space_beside_uniform
from studies.tables import options, publish

N_EVALUATIONS = 10_000
HEURISTICS: tuple[Algorithm, ...] = ("genetic", "greedy", "ncs-refined", "cma-es", "ncs", "random")
GRIDS = (1, 8, 16, 32)
BANDS = {"at most the target": 0.0, "within [0.98, 1.00] of the target": 0.98}


@dataclass(frozen=True)
class Subject:
    """A network, its input, and its target in FLOPs, or half of the dense model's."""

    name: str
    model: str
    side: int
    n_classes: int = 1000
    target_flops: int | None = None

    @property
    def target(self) -> int:
        return self.target_flops or self.network.cost.dense.flops // 2

    @property
    def network(self) -> Network:
        return network(self.model, (3, self.side, self.side), self.n_classes)


SUBJECTS = (
    Subject("ResNet50", "torchvision:resnet50", 224, target_flops=10**9),
    Subject("MobileNetV1", "mobilenetv1", 224),
    Subject("VGG16", "torchvision:vgg16", 224),
    Subject("ResNet56", "resnet56", 32, 10),
    Subject("YOLOv8n", "ultralytics:yolov8n.yaml", 640, 80),
)


def grouped_scores(sizes: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """The same, but a channel of a wide group is worth as much as one of a narrow group."""
    return [rng.gamma(2, 1, size) * np.exp(0.5 * rng.standard_normal()) for size in sizes]


def even_scores(sizes: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Uniform in [0.5, 1.5] for every channel of the network."""
    return [rng.uniform(0.5, 1.5, size) for size in sizes]


SCORES: dict[str, Callable[[np.ndarray, np.random.Generator], list[np.ndarray]]] = {
    "spread": drawn_scores,
    "grouped": grouped_scores,
    "even": even_scores,
}


@cache
def fleet() -> SimulatedFleet:
    """A thousand Xavier NX boards that differ, in fp32."""
    return simulated_fleet(sku="xavier_nx", scenario="mixed", n_devices=1000, seed=0)


def problem(subject: Subject, *, least_share: float, scores: str = "spread") -> tuple[SearchSpace, np.ndarray]:
    """Least mean latency with the importance of uniform pruning, and uniform pruning's widths."""
    cost = subject.network.cost
    importance = AdditiveImportance.of_scores(SCORES[scores](cost.sizes, np.random.default_rng(0)))
    objective, least = FleetMean(fleet(), subject.network.kernels), int(np.ceil(least_share * subject.target))
    return space_beside_uniform(cost, subject.target, objective, importance, least_flops=least)


@dataclass(frozen=True)
class Answer:
    """Latency as a share of uniform's, how far from optimal it can be, and processor seconds."""

    latency: float
    gap: float | None
    seconds: float

    def __str__(self) -> str:
        certificate = "" if self.gap is None else f" (gap {self.gap:.2%}, {self.seconds:.1f} s)"
        return f"{self.latency:.4f}{certificate}" if certificate else f"{self.latency:.3f}"


def answer(space: SearchSpace, uniform: np.ndarray, algorithm: Algorithm, n_seeds: int) -> Answer:
    """What a searcher finds from uniform pruning, on average over seeds."""
    baseline = float(space.objective(uniform)[0])
    start = time.process_time()
    if algorithm == "exact":
        if (reason := why_not_exact(space)) is not None:
            sys.exit(f"not exact: {reason}")
        results = [solve_exact(space, start=uniform[None])]
    else:
        seeds = [np.random.default_rng(seed) for seed in range(n_seeds)]
        results = [
            minimise(space, start=uniform[None], n_evaluations=N_EVALUATIONS, rng=rng, algorithm=algorithm)
            for rng in seeds
        ]
    seconds = (time.process_time() - start) / len(results)
    plans = np.stack([result.widths for result in results])
    assert not space.violation(plans).any()
    found = Answer(float(space.objective(plans).mean()) / baseline, results[0].gap, seconds)
    print(f"{algorithm}: {found} {seconds:.1f} s", file=sys.stderr, flush=True)
    return found


def band_table(subjects: list[Subject], least_share: float, n_seeds: int) -> str:
    """Markdown: one row per network, exact and every heuristic."""
    lines = [
        "| network | target (GFLOPs) | exact | " + " | ".join(HEURISTICS) + " |",
        "|---" * (3 + len(HEURISTICS)) + "|",
    ]
    seconds: dict[str, list[float]] = {name: [] for name in HEURISTICS}
    for subject in subjects:
        space, uniform = problem(subject, least_share=least_share)
        print(f"{subject.name}, FLOPs from {least_share} of the target", file=sys.stderr, flush=True)
        cells = [str(answer(space, uniform, "exact", 1))]
        for name in HEURISTICS:
            found = answer(space, uniform, name, n_seeds)
            cells.append(str(found))
            seconds[name].append(found.seconds)
        lines.append(f"| {subject.name} | {subject.target / 1e9:.3g} | " + " | ".join(cells) + " |")
    times = [f"{min(values):.1f} to {max(values):.1f} s" for values in seconds.values()]
    lines.append("| processor time | | in brackets | " + " | ".join(times) + " |")
    return "\n".join(lines)


def score_table(subject: Subject) -> str:
    """Markdown: what the optimum depends on, besides the network."""
    lines = ["| importance | " + " | ".join(BANDS) + " |", "|---" * (1 + len(BANDS)) + "|"]
    for name, scores in SCORES.items():
        found = [answer(*problem(subject, least_share=share, scores=name), "exact", 1) for share in BANDS.values()]
        meaning = (scores.__doc__ or "").rstrip(".")
        lines.append(f"| {name}: {meaning} | " + " | ".join(str(cell) for cell in found) + " |")
    return "\n".join(lines)


def grid_table(subject: Subject) -> str:
    """Markdown: what widths in multiples cost."""
    lines = ["| round_to | " + " | ".join(BANDS) + " |", "|---" * (1 + len(BANDS)) + "|"]
    for round_to in GRIDS:
        spaces = [problem(subject, least_share=share) for share in BANDS.values()]
        found = [answer(replace(space, round_to=round_to), uniform, "exact", 1) for space, uniform in spaces]
        lines.append(f"| {round_to} | " + " | ".join(str(cell) for cell in found) + " |")
    return "\n".join(lines)


def report(subjects: list[Subject], n_seeds: int) -> str:
    """All tables."""
    parts = [f"FLOPs {name}:\n\n{band_table(subjects, share, n_seeds)}" for name, share in BANDS.items()]
    if SUBJECTS[0] in subjects:
        parts.append(f"{SUBJECTS[0].name}, exact, by how importance is drawn:\n\n{score_table(SUBJECTS[0])}")
        parts.append(f"{SUBJECTS[0].name}, exact, by width grid:\n\n{grid_table(SUBJECTS[0])}")
    return "\n\n".join(parts)


def main() -> int:
    """Print the tables and write them into the documentation; 0."""
    parser = options(__doc__, check="print, write nothing")
    parser.add_argument("--seeds", type=int, default=1, help="searches per heuristic, of which the mean is shown")
    parser.add_argument(
        "--models", nargs="+", default=[subject.name for subject in SUBJECTS], help="some networks only"
    )
    arguments = parser.parse_args()
    wanted = {name.lower() for name in arguments.models}
    text = report([subject for subject in SUBJECTS if subject.name.lower() in wanted], arguments.seeds)
    publish("hdap.md", "search", "searchers", [text], check=arguments.check)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
