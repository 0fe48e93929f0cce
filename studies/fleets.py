"""Error and coverage of the estimators of a fleet's average, per scenario and number of measured devices.

    python -m studies.fleets [--fleets 250] [--check]

Writes hdapbench/fleet/estimate/study.json, from which the default estimator is chosen, and the table in docs/fleets.md. About five
minutes on one core. ``--check`` runs a tenth of it and writes nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hdapbench.cost.kernels import KernelModel
from hdapbench.fleet.estimate.clustering import Clustering, cluster_devices
from hdapbench.fleet.estimate.estimators import ESTIMATORS, ON_MEDOIDS, Estimator, Reference, draw_design, estimate
from hdapbench.fleet.estimate.probes import take_fingerprint
from studies.subjects import network, one_by_one, pruned, simulated_fleet
from studies.tables import options, publish

STUDY = Path(__file__).parents[1] / "hdapbench" / "fleet" / "estimate" / "study.json"
SCENARIOS = ("same_config", "mixed", "harsh")
NUMBERS = (4, 8, 16, 32)
N_DEVICES, N_MODELS, RUNS = 200, 4, 7


@dataclass(frozen=True)
class World:
    """A fleet, its fingerprint, unseen models, what they truly take, and one measurement of each on every device."""

    reference: Reference
    truth_ms: np.ndarray
    measured_ms: np.ndarray
    seed: int


def world(kernels: KernelModel, scenario: str, seed: int) -> World:
    """A fleet of a scenario with models pruned at random."""
    fleet = simulated_fleet(sku="xavier_nx", scenario=scenario, n_devices=N_DEVICES, seed=seed)
    taken = take_fingerprint(fleet, kernels, runs=RUNS, seed=100)
    models = pruned(kernels, N_MODELS, np.random.default_rng(seed))
    measured = [
        np.median(fleet.measure(one, np.arange(N_DEVICES), runs=RUNS, seed=1000 + number)[:, 0], axis=1)
        for number, one in enumerate(one_by_one(models))
    ]
    return World(Reference.of(taken.latency_ms), fleet.mean_latency_ms(models), np.stack(measured), seed)


def errors(here: World, clustering: Clustering, estimator: Estimator, n: int) -> Iterator[tuple[float, bool, float]]:
    """Relative error, whether the interval held the truth, and its relative half-width, of each model."""
    per_cluster = n if estimator in ("greg", "random") else 1
    design = draw_design(here.reference, clustering, estimator, n=per_cluster, seed=here.seed)
    found = estimate(here.reference, clustering, design, here.measured_ms[:, design.devices])
    for mean, low, high, truth in zip(found.mean_ms, found.low_ms, found.high_ms, here.truth_ms, strict=True):
        yield mean / truth - 1, bool(low <= truth <= high), (high - low) / 2 / mean


def run_study(kernels: KernelModel, n_fleets: int) -> list[dict[str, object]]:
    """Rows of the study: 95 % quantile of the absolute error, coverage and mean half-width."""
    rows: list[dict[str, object]] = []
    for scenario in SCENARIOS:
        found: dict[tuple[str, int], list[tuple[float, bool, float]]] = {}
        for seed in range(n_fleets):
            here = world(kernels, scenario, seed)
            for n in NUMBERS:
                clustering = cluster_devices(here.reference.fingerprint_ms, n_clusters=n, seed=seed)
                for estimator in ESTIMATORS:
                    found.setdefault((estimator, n), []).extend(errors(here, clustering, estimator, n))
                density = cluster_devices(here.reference.fingerprint_ms, method="dbscan", seed=seed)
                found.setdefault(("dbscan medoid", n), []).extend(errors(here, density, "medoid", n))
            print(f"\r{scenario}: {seed + 1}/{n_fleets}", end="", file=sys.stderr)
        print(file=sys.stderr)
        for (estimator, n), values in found.items():
            error, covered, width = (np.array(column, dtype=float) for column in zip(*values, strict=True))
            rows.append(
                {
                    "scenario": scenario,
                    "estimator": estimator,
                    "n": n,
                    "error_95": round(float(np.quantile(np.abs(error), 0.95)), 5),
                    "coverage": round(float(covered.mean()), 4),
                    "half_width": round(float(width.mean()), 5),
                }
            )
    return rows


def table(rows: list[dict[str, object]]) -> str:
    """Markdown of the study: error and coverage by scenario and estimator."""
    lines = [
        "| scenario | estimator | measures | " + " | ".join(f"n = {n}" for n in NUMBERS) + " |",
        "|---|---|---|" + "---|" * len(NUMBERS),
    ]
    for scenario in SCENARIOS:
        for estimator in (*ESTIMATORS, "dbscan medoid"):
            of = {row["n"]: row for row in rows if (row["scenario"], row["estimator"]) == (scenario, estimator)}
            what = "representatives" if estimator in ON_MEDOIDS else "random devices"
            if estimator == "dbscan medoid":
                what = "one device per cluster found"
            cells = [f"{of[n]['error_95']:.1%} ({of[n]['coverage']:.0%}, ±{of[n]['half_width']:.1%})" for n in NUMBERS]
            lines.append(f"| {scenario} | {estimator} | {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Run the study; 0."""
    parser = options(__doc__, check="a tenth of the fleets; prints and writes nothing")
    parser.add_argument("--fleets", type=int, default=250, help="fleets per scenario, four models each (default 250)")
    arguments = parser.parse_args()
    n_fleets = max(1, arguments.fleets // 10) if arguments.check else arguments.fleets
    rows = run_study(network("ResNet50").kernels, n_fleets)
    publish("fleets.md", "fleets", "study", [table(rows)], check=arguments.check)
    if not arguments.check:
        about = {"n_devices": N_DEVICES, "n_replications": n_fleets * N_MODELS, "model": "ResNet50", "sku": "xavier_nx"}
        STUDY.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
