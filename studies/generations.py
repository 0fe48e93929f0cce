"""Fleets of two software generations, one with slow depthwise kernels: what clusters, and what one board, say about them.

    python -m studies.generations [--check]

Writes the table in docs/fleets.md; about a minute on one core. ``--check`` writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hdapbench.cost.kernels import KernelModel
from hdapbench.fleet.estimate.clustered import cluster_fleet
from hdapbench.fleet.estimate.clustering import Clustering, separated_clusters
from hdapbench.fleet.estimate.probes import choose_probes, take_fingerprint
from hdapbench.spec import ClusteringSpec
from studies.subjects import network, one_by_one, pruned, simulated_fleet
from studies.tables import options, publish

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


def purity(clustering: Clustering, generation: np.ndarray) -> float:
    """Share of the devices that are in a cluster where their generation has the majority."""
    counts = np.stack(
        [np.bincount(clustering.labels[generation == g], minlength=clustering.n_clusters) for g in (0, 1)]
    )
    return float(counts.max(axis=0).sum() / counts.sum())


def examine(kernels: KernelModel, sku: str, scenario: str, seed: int) -> Findings:
    """One fleet of which about half runs the slow generation."""
    own = {"base": scenario, "stacks": [{"share": 0.5, "depthwise_slowdown": 3.0}]}
    fleet = simulated_fleet(sku=sku, n_devices=N_DEVICES, seed=seed, scenario=own)
    fingerprint = take_fingerprint(fleet, kernels, runs=RUNS, seed=0, widths=choose_probes(kernels, fleet))
    models = pruned(kernels, N_MODELS, np.random.default_rng([99, seed]))
    truth = fleet.mean_latency_ms(models)
    found = {}
    for estimator in ("calibrated", "random"):
        how = ClusteringSpec.model_validate({"n_clusters": N_MEASURED, "estimator": estimator})
        clustered = cluster_fleet(fleet, fingerprint.latency_ms, how, seed=seed)
        means = []
        for number, one in enumerate(one_by_one(models)):
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
    kernels = network("MobileNetV1").kernels
    heads = ("board", "scenario", "one nominal device", "above 10 %", "16 random devices", "16 representatives")
    heads += ("at worst", "clusters found", "pure", "16 clusters, pure")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for scenario in ("same_config", "mixed"):
        lines += [row(kernels, sku, scenario) for sku in ("xavier_nx", "nano")]
    return "\n".join(lines)


def main() -> int:
    """Print the table and write it into the documentation; 0."""
    check = options(__doc__, check="print, write nothing").parse_args().check
    publish("fleets.md", "generations", "generations", [table()], check=check)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
