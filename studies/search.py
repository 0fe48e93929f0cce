"""Searchers compared on five networks: the tables in docs/hdap.md.

    python -m studies.search [--check] [--seeds 1] [--models resnet50 ...]

Latency is the exact mean of a simulated fleet, so that searchers are compared and not surrogates. No weights are needed:
importance is drawn, once per network. Needs the extras yolo and cma; ``--check`` writes nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from hdapbench.bench.network import Network
from hdapbench.cost.target import fill, largest_share, widths_at_share
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from hdapbench.search import AdditiveImportance, Algorithm, SearchSpace, minimise, solve_exact, why_not_exact
from hdapbench.spec import ModelSpec, SimulatedFleetSpec
from studies.objectives import FleetMean
from studies.tables import write

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "hdap.md"
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
        return self.target_flops or network(self).cost.dense.flops // 2


SUBJECTS = (
    Subject("ResNet50", "torchvision:resnet50", 224, target_flops=10**9),
    Subject("MobileNetV1", "mobilenetv1", 224),
    Subject("VGG16", "torchvision:vgg16", 224),
    Subject("ResNet56", "resnet56", 32, 10),
    Subject("YOLOv8n", "ultralytics:yolov8n.yaml", 640, 80),
)


def spread_scores(sizes: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Gamma(2) within groups; groups differ by a lognormal factor of 0.5, and wide ones have less per channel."""
    return [rng.gamma(2, 1, size) * np.exp(0.5 * rng.standard_normal()) / np.sqrt(size) for size in sizes]


def grouped_scores(sizes: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """The same, but a channel of a wide group is worth as much as one of a narrow group."""
    return [rng.gamma(2, 1, size) * np.exp(0.5 * rng.standard_normal()) for size in sizes]


def even_scores(sizes: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Uniform in [0.5, 1.5] for every channel of the network."""
    return [rng.uniform(0.5, 1.5, size) for size in sizes]


SCORES: dict[str, Callable[[np.ndarray, np.random.Generator], list[np.ndarray]]] = {
    "spread": spread_scores,
    "grouped": grouped_scores,
    "even": even_scores,
}


@cache
def network(subject: Subject) -> Network:
    """The traced network."""
    import torch

    from hdapbench.bench.network import trace
    from hdapbench.models import build_model

    torch.manual_seed(0)
    shape = (3, subject.side, subject.side)
    spec = ModelSpec(name=subject.model, input_shape=shape)
    return trace(build_model(spec, n_classes=subject.n_classes, base_dir=ROOT).eval(), shape)


@cache
def fleet() -> SimulatedFleet:
    """A thousand Xavier NX boards that differ, in fp32."""
    spec = {"name": "f", "kind": "simulated", "sku": "xavier_nx", "scenario": "mixed", "n_devices": 1000, "seed": 0}
    return SimulatedFleet(SimulatedFleetSpec.model_validate(spec))


def problem(subject: Subject, *, least_share: float, scores: str = "spread") -> tuple[SearchSpace, np.ndarray]:
    """Least mean latency with the importance of uniform pruning, and uniform pruning's widths."""
    traced = network(subject)
    cost, target = traced.cost, subject.target
    importance = AdditiveImportance.of_scores(SCORES[scores](cost.sizes, np.random.default_rng(0)))
    uniform = fill(cost, widths_at_share(cost, largest_share(cost, target)), target)
    space = SearchSpace(
        cost=cost,
        target_flops=target,
        objective=FleetMean(fleet(), traced.kernels),
        least_flops=int(np.ceil(least_share * target)),
        retained=importance,
        least_retained=float(importance(uniform)[0]),
    )
    return space, uniform


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


def main(argv: list[str] | None = None) -> int:
    """Print the tables and write them into the documentation; 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="print, write nothing")
    parser.add_argument("--seeds", type=int, default=1, help="searches per heuristic, of which the mean is shown")
    parser.add_argument(
        "--models", nargs="+", default=[subject.name for subject in SUBJECTS], help="some networks only"
    )
    arguments = parser.parse_args(argv)
    wanted = {name.lower() for name in arguments.models}
    text = report([subject for subject in SUBJECTS if subject.name.lower() in wanted], arguments.seeds)
    print(text)
    if not arguments.check:
        write(DOCS, "search", "searchers", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
