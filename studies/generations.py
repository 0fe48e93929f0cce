"""Fleets of two software generations, one with slow depthwise kernels: what clusters, and what one board, say about them.

    python -m studies.generations [--check]

Writes the table in docs/fleets.md; about a minute on one core. ``--check`` writes nothing.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hdapbench.cost.kernels import KernelModel
from hdapbench.fleet.base import Workloads
from hdapbench.fleet.estimate.clustered import cluster_fleet
from hdapbench.fleet.estimate.clustering import Clustering, separated_clusters
from hdapbench.fleet.estimate.probes import choose_probes, take_fingerprint
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from hdapbench.spec import ClusteringSpec, SimulatedFleetSpec
from studies.tables import write

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "fleets.md"
N_FLEETS, N_MODELS, N_DEVICES, N_MEASURED, RUNS = 12, 20, 200, 16, 7


@dataclass(frozen=True)
class Findings:
    """Of one fleet: relative errors on models, shape (n_models,); clusters found, and how pure they are."""

    nominal: np.ndarray
    random: np.ndarray
    ours: np.ndarray
    n_found: int
    purity_found: float
    purity_measured: float


def mobilenet() -> KernelModel:
    """Fused kernels of MobileNetV1 at 224 x 224."""
    from hdapbench.bench.network import trace
    from hdapbench.models import build_model
    from hdapbench.spec import ModelSpec

    spec = ModelSpec(name="mobilenetv1", input_shape=(3, 224, 224))
    return trace(build_model(spec, n_classes=1000, base_dir=ROOT).eval(), (3, 224, 224)).kernels


def pruned(kernels: KernelModel, seed: int) -> Workloads:
    """Models pruned at random: an overall share, and layers that depart from it."""
    rng = np.random.default_rng([99, seed])
    shares = rng.uniform(0.1, 1.0, size=(N_MODELS, 1)) ** rng.uniform(0, 2, size=(N_MODELS, len(kernels.sizes)))
    widths = np.maximum(1, (kernels.sizes * shares).astype(np.int64))
    return Workloads(kernels, widths, tuple(f"m{number}" for number in range(N_MODELS)))


def purity(clustering: Clustering, generation: np.ndarray) -> float:
    """Share of the devices that are in a cluster where their generation has the majority."""
    counts = np.stack(
        [np.bincount(clustering.labels[generation == g], minlength=clustering.n_clusters) for g in (0, 1)]
    )
    return float(counts.max(axis=0).sum() / counts.sum())


def examine(kernels: KernelModel, sku: str, scenario: str, seed: int) -> Findings:
    """One fleet of which about half runs the slow generation."""
    fields = {"name": "f", "kind": "simulated", "sku": sku, "n_devices": N_DEVICES, "seed": seed}
    own = {"base": scenario, "stacks": [{"share": 0.5, "depthwise_slowdown": 3.0}]}
    fleet = SimulatedFleet(SimulatedFleetSpec.model_validate(fields | {"scenario": own}))
    fingerprint = take_fingerprint(fleet, kernels, runs=RUNS, seed=0, widths=choose_probes(kernels, fleet))
    models = pruned(kernels, seed)
    truth = fleet.mean_latency_ms(models)
    found = {}
    for estimator in ("calibrated", "random"):
        how = ClusteringSpec.model_validate({"n_clusters": N_MEASURED, "estimator": estimator})
        clustered = cluster_fleet(fleet, fingerprint.latency_ms, how, seed=seed)
        means = []
        for number in range(N_MODELS):  # each model in a session of its own: devices drift in between
            one = Workloads(kernels, models.widths[number : number + 1], models.ids[number : number + 1])
            measured = clustered.measure_clusters(one, runs=RUNS, seed=500 + number)
            means.append(clustered.average(measured.device_latency_ms).mean_ms[0])
        found[estimator] = np.array(means) / truth - 1
    nominal = np.median(fleet.sample_nominal(models, runs=RUNS, seed=500), axis=1) / truth - 1
    kinds = separated_clusters(fingerprint.latency_ms, n_most=16, seed=seed)
    generation = fleet.states.stack_index
    return Findings(
        nominal=nominal,
        random=found["random"],
        ours=found["calibrated"],
        n_found=kinds.n_clusters,
        purity_found=purity(kinds, generation),
        purity_measured=purity(clustered.clustering, generation),
    )


def row(kernels: KernelModel, sku: str, scenario: str) -> str:
    """Row of the table."""
    every = [examine(kernels, sku, scenario, seed) for seed in range(N_FLEETS)]
    nominal, random, ours = (np.abs(np.concatenate([getattr(one, key) for one in every])) for key in _ERRORS)
    numbers = sorted({one.n_found for one in every})
    kinds = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    pure_found, pure_measured = (np.mean([getattr(one, key) for one in every]) for key in _PURITIES)
    return (
        f"| {sku} | {scenario} | {nominal.min():.0%} to {nominal.max():.0%} | {(nominal > 0.1).sum()} of {nominal.size} | {np.quantile(random, 0.95):.1%} | "
        f"{np.quantile(ours, 0.95):.1%} | {ours.max():.1%} | {kinds} | {pure_found:.0%} | {pure_measured:.0%} |"
    )


_ERRORS = ("nominal", "random", "ours")
_PURITIES = ("purity_found", "purity_measured")


def table() -> str:
    """Markdown: one row per board and scenario."""
    kernels = mobilenet()
    heads = ("board", "scenario", "one nominal device", "above 10 %", "16 random devices", "16 representatives")
    heads += ("at worst", "clusters found", "pure", "16 clusters, pure")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for scenario in ("same_config", "mixed"):
        lines += [row(kernels, sku, scenario) for sku in ("xavier_nx", "nano")]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Print the table and write it into the documentation; 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="print, write nothing")
    arguments = parser.parse_args(argv)
    text = table()
    print(text)
    if not arguments.check:
        write(DOCS, "generations", "generations", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
