"""Coverage and bias of estimates of recorded fleets' averages, by samples per cell, devices and measured devices.

    python -m studies.recordings [--fleets 200] [--check]

Writes the tables in docs/fleets.md. About half an hour on one core. ``--check`` runs a fiftieth of it and writes nothing.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from hdapbench.cost.kernels import KernelModel
from hdapbench.fleet.base import Workloads
from hdapbench.fleet.estimate.clustered import ClusteredFleet, cluster_fleet
from hdapbench.fleet.estimate.estimators import ESTIMATORS
from hdapbench.fleet.estimate.probes import choose_probes
from hdapbench.fleet.open import open_fleet
from hdapbench.fleet.recorded.fleet import RecordedFleet
from hdapbench.spec import ClusteringSpec, RecordedFleetSpec
from studies.subjects import network, pruned, simulated_fleet
from studies.tables import options, publish

SCENARIOS = {"same_config": (5, 20, 100), "mixed": (5, 20, 100), "odd models": (5, 20)}
"""Scenario -> devices of its fleets."""
SAMPLES = (2, 5, 10, 20)
DEVICES = {5: (5, 3), 20: (20, 10, 5), 100: (100, 50, 5)}
"""Devices of a fleet -> how many of them are measured: all, half and few."""
N_PLANS, NOISE = 5, 0.02
PROBES = ("probe0", "probe1", "probe2")


@dataclass(frozen=True)
class Recording:
    """A recorded fleet with three probes, the plans that are estimated, and what these truly take on average."""

    fleet: RecordedFleet
    plans: Workloads
    truth_ms: np.ndarray


def recordings(
    kernels: KernelModel, scenario: str, n_devices: int, seed: int, folder: Path
) -> Iterator[tuple[int, Recording]]:
    """Numbers of samples, and a recording of so many per cell: normal noise about what the devices truly take."""
    true = odd_models(n_devices, seed) if scenario == "odd models" else simulated(kernels, scenario, n_devices, seed)
    plans = tuple(f"plan{number}" for number in range(N_PLANS))
    devices, names = np.array([f"unit-{number:03}" for number in range(n_devices)]), np.array([*PROBES, *plans])
    rng = np.random.default_rng([2, seed])
    for n_samples in SAMPLES:
        latency = true[:, :, None] * (1 + NOISE * rng.standard_normal((*true.shape, n_samples)))
        device, plan, sample = np.indices(latency.shape).reshape(3, -1)
        columns = {"device": devices[device], "plan": names[plan], "sample": sample}
        path = folder / f"{n_samples}.csv"
        pl.DataFrame(columns | {"latency_ms": latency.ravel()}).write_csv(path)
        spec = {"name": "lab", "kind": "recorded", "path": str(path), "unit": "ms", "probes": PROBES}
        fleet = open_fleet(RecordedFleetSpec.model_validate(spec))
        assert isinstance(fleet, RecordedFleet)
        yield n_samples, Recording(fleet, Workloads.named(plans), true[:, len(PROBES) :].mean(axis=0))


def simulated(kernels: KernelModel, scenario: str, n_devices: int, seed: int) -> np.ndarray:
    """Noise-free latencies of probes and plans pruned at random on Xavier NX, shape (n_devices, n_probes + n_plans)."""
    boards = simulated_fleet(sku="xavier_nx", scenario=scenario, n_devices=n_devices, seed=seed)
    models = pruned(kernels, N_PLANS, np.random.default_rng([1, seed]))
    widths = np.concatenate([choose_probes(kernels), models.widths])
    return boards.true_latency_ms(Workloads(kernels, widths, (*PROBES, *models.ids)))


def odd_models(n_devices: int, seed: int) -> np.ndarray:
    """Latencies of unrelated models: speed, two hidden traits of each device, and 4 % that nothing explains.

    The last differs from model to model by a factor of e**0.5: what the probes stray says little of what a plan does.
    """
    rng = np.random.default_rng([3, seed])
    n_models = len(PROBES) + N_PLANS
    speed, traits = 0.3 * rng.standard_normal((n_devices, 1)), 0.1 * rng.standard_normal((n_devices, 2))
    own = np.exp(rng.normal(np.log(0.04), 0.5, n_models)) * rng.standard_normal((n_devices, n_models))
    return 20 * np.exp(speed + traits @ rng.standard_normal((2, n_models)) + own)


def judged(here: Recording, clustered: ClusteredFleet, n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Relative error of each plan's estimate, and whether its interval held the truth."""
    measured = clustered.measure_clusters(here.plans, runs=n_samples, seed=0)
    found = clustered.average(measured.device_latency_ms, measured.devices, measured.noise)
    return found.mean_ms / here.truth_ms - 1, (found.low_ms <= here.truth_ms) & (here.truth_ms <= found.high_ms)


Key = tuple[str, int, int, str, int]
"""Scenario, devices, measured devices, estimator, samples per cell."""


def run_study(kernels: KernelModel, n_fleets: int) -> dict[Key, tuple[np.ndarray, np.ndarray]]:
    """Errors and coverage of each cell of the study, of shape (n_fleets, N_PLANS)."""
    found: dict[Key, list[tuple[np.ndarray, np.ndarray]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for scenario, n_devices in ((name, n) for name, sizes in SCENARIOS.items() for n in sizes):
            for seed in range(n_fleets):
                for n_samples, here in recordings(kernels, scenario, n_devices, seed, Path(folder)):
                    fingerprint = here.fleet.recorded_fingerprint().latency_ms
                    for n in DEVICES[n_devices]:
                        spec = ClusteringSpec(n_clusters=n, estimator="medoid")
                        clustering = cluster_fleet(here.fleet, fingerprint, spec, seed=seed).clustering
                        for estimator in ESTIMATORS[:1] if n == n_devices else ESTIMATORS:
                            one = ClusteredFleet(here.fleet, clustering, fingerprint, estimator)
                            key = (scenario, n_devices, n, estimator, n_samples)
                            found.setdefault(key, []).append(judged(here, one, n_samples))
            print(f"{scenario}, {n_devices} devices", file=sys.stderr)
    return {
        key: (np.stack([error for error, _ in pairs]), np.stack([held for _, held in pairs]))
        for key, pairs in found.items()
    }


def table(found: dict[Key, tuple[np.ndarray, np.ndarray]], scenarios: tuple[str, ...]) -> list[str]:
    """Markdown: coverage and bias by samples per cell; with all devices measured the estimators agree."""
    lines = [
        "| fleet | devices | measured | estimator | " + " | ".join(f"{n} samples" for n in SAMPLES) + " |",
        "|---|--:|--:|---|" + "---|" * len(SAMPLES),
    ]
    for scenario in scenarios:
        for n_devices in SCENARIOS[scenario]:
            for n in DEVICES[n_devices]:
                for estimator in ESTIMATORS[:1] if n == n_devices else ESTIMATORS:
                    cells = [cell(*found[scenario, n_devices, n, estimator, n_samples]) for n_samples in SAMPLES]
                    name = "all five" if n == n_devices else estimator
                    lines.append(f"| {scenario} | {n_devices} | {n} | {name} | " + " | ".join(cells) + " |")
    return lines


def cell(errors: np.ndarray, held: np.ndarray) -> str:
    """Coverage, and bias with its standard error; plans of one fleet share devices, so that fleets are what counts."""
    of_fleet = errors.mean(axis=1)
    error = of_fleet.std(ddof=1) / np.sqrt(len(of_fleet))
    return f"{held.mean():.1%}, {of_fleet.mean():+.2%} ± {error:.2%}"


def main() -> int:
    """Run the study; 0."""
    parser = options(__doc__, check="a fiftieth of the fleets; prints and writes nothing")
    parser.add_argument("--fleets", type=int, default=200, help="fleets per row, five plans each (default 200)")
    arguments = parser.parse_args()
    n_fleets = max(2, arguments.fleets // 50) if arguments.check else arguments.fleets
    found = run_study(network("ResNet50").kernels, n_fleets)
    publish("fleets.md", "recordings", "recordings", table(found, ("same_config", "mixed")), check=arguments.check)
    publish("fleets.md", "recordings", "odd models", table(found, ("odd models",)), check=arguments.check)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
