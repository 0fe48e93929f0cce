"""Error and coverage of the estimators of a fleet's average, per scenario and number of measured devices.

    python -m studies.fleets [--fleets 250] [--check]

Writes hdapbench/fleet/estimate/study.json, from which the default estimator is chosen, and the table in docs/fleets.md. About five
minutes on one core. ``--check`` runs a tenth of it and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hdapbench.cost.kernels import KernelModel
from hdapbench.fleet.base import Workloads
from hdapbench.fleet.estimate.clustering import Clustering, cluster_devices
from hdapbench.fleet.estimate.estimators import ESTIMATORS, ON_MEDOIDS, Estimator, Reference, draw_design, estimate
from hdapbench.fleet.estimate.probes import take_fingerprint
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from hdapbench.spec import SimulatedFleetSpec
from studies.tables import write

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "hdapbench" / "fleet" / "estimate" / "study.json"
DOCS = ROOT / "docs" / "fleets.md"
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


def resnet50() -> KernelModel:
    """Fused kernels of torchvision's ResNet50 at 224 x 224."""
    from hdapbench.bench.network import trace
    from hdapbench.models import build_model
    from hdapbench.spec import ModelSpec

    spec = ModelSpec(name="torchvision:resnet50", input_shape=(3, 224, 224))
    return trace(build_model(spec, n_classes=1000, base_dir=ROOT).eval(), (3, 224, 224)).kernels


def world(kernels: KernelModel, scenario: str, seed: int) -> World:
    """A fleet of a scenario with models pruned at random: an overall share, and layers that depart from it."""
    spec = {"name": "f", "kind": "simulated", "sku": "xavier_nx", "scenario": scenario, "n_devices": N_DEVICES}
    fleet = SimulatedFleet(SimulatedFleetSpec.model_validate(spec | {"seed": seed}))
    taken = take_fingerprint(fleet, kernels, runs=RUNS, seed=100)
    rng = np.random.default_rng(seed)
    shares = rng.uniform(0.1, 1.0, size=(N_MODELS, 1)) ** rng.uniform(0, 2, size=(N_MODELS, len(kernels.sizes)))
    widths = np.maximum(1, (kernels.sizes * shares).astype(np.int64))
    every = np.arange(N_DEVICES)
    measured = []
    for number in range(N_MODELS):  # each model in a session of its own: devices drift in between
        one = Workloads(kernels, widths[number : number + 1], (f"m{number}",))
        measured.append(np.median(fleet.measure(one, every, runs=RUNS, seed=1000 + number)[:, 0], axis=1))
    truth = fleet.mean_latency_ms(Workloads(kernels, widths, tuple(f"m{number}" for number in range(N_MODELS))))
    return World(Reference.of(taken.latency_ms), truth, np.stack(measured), seed)


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


def main(argv: list[str] | None = None) -> int:
    """Run the study; 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fleets", type=int, default=250, help="fleets per scenario, four models each (default 250)")
    parser.add_argument("--check", action="store_true", help="a tenth of the fleets; prints and writes nothing")
    arguments = parser.parse_args(argv)
    n_fleets = max(1, arguments.fleets // 10) if arguments.check else arguments.fleets
    rows = run_study(resnet50(), n_fleets)
    print(table(rows))
    if not arguments.check:
        about = {"n_devices": N_DEVICES, "n_replications": n_fleets * N_MODELS, "model": "ResNet50", "sku": "xavier_nx"}
        STUDY.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
        write(DOCS, "fleets", "study", table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
