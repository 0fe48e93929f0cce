"""Small fleets, workloads and replications that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hdapbench.cost.kernels import KernelModel
from hdapbench.fleet.base import Fleet, LatencySource, Workloads
from hdapbench.fleet.estimate.probes import choose_probes
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from hdapbench.spec import SimulatedFleetSpec
from tests.zoo import traced

RUNS = 7


def simulated(scenario: object = "mixed", n_devices: int = 12, seed: int = 7, **changes: object) -> SimulatedFleet:
    """Xavier NX boards in a scenario, or in what a spec may say about one."""
    fields = {"name": "f", "kind": "simulated", "sku": "xavier_nx", "scenario": scenario}
    return SimulatedFleet(SimulatedFleetSpec.model_validate(fields | {"n_devices": n_devices, "seed": seed} | changes))


def pruned(kernels: KernelModel, n_plans: int, seed: int) -> Workloads:
    """Models pruned at random: an overall share, and layers that depart from it."""
    rng = np.random.default_rng([99, seed])
    shares = rng.uniform(0.1, 1.0, size=(n_plans, 1)) ** rng.uniform(0, 2, size=(n_plans, len(kernels.sizes)))
    widths = np.maximum(1, (kernels.sizes * shares).astype(np.int64))
    return Workloads(kernels, widths, tuple(f"p{number}" for number in range(n_plans)))


def imagenet_kernels(name: str) -> KernelModel:
    """Fused kernels of a model for ImageNet at 224 x 224."""
    return traced(name, (3, 224, 224), n_classes=1000).kernels


class ToyFleet(Fleet):
    """Devices whose latency of a workload stands in a table, shape (n_devices, n_workloads), by the workload's id."""

    name = "toy"
    source: LatencySource = "measured"

    def __init__(self, table: dict[str, np.ndarray]) -> None:
        self.table = table
        self.device_ids = tuple(f"board-{number}" for number in range(len(next(iter(table.values())))))

    def describe(self) -> dict[str, str | int | float]:
        return {"kind": "toy"}

    def sample(self, workloads: Workloads, devices: np.ndarray, *, runs: int, seed: int) -> np.ndarray:
        latency = np.stack([self.table[name][devices] for name in workloads.ids], axis=1)
        return np.repeat(latency[:, :, None], runs, axis=2)


@dataclass(frozen=True)
class Replication:
    """A fleet with its fingerprint, an unseen model measured once on every device, and what that truly takes.

    ``fingerprint_ms`` has shape (n_devices, n_probes), ``measured_ms`` (n_devices, n_models), ``truth_ms`` (n_models,).
    """

    fleet: SimulatedFleet
    fingerprint_ms: np.ndarray
    measured_ms: np.ndarray
    truth_ms: np.ndarray
    seed: int


def replications(
    kernels: KernelModel, scenario: str, *, n_fleets: int, n_models: int = 4, n_devices: int = 200
) -> Iterator[Replication]:
    """Fleets of a scenario, each with models of its own that no probe is.

    They are slices of one large fleet, whose devices are independent of each other: fleets of their own, made at once.
    """
    whole = simulated(scenario, n_fleets * n_devices, seed=0)
    one_fleet = simulated(scenario, n_devices, seed=0)
    every = np.arange(whole.n_devices)
    probes = choose_probes(kernels)

    def medians(widths: np.ndarray, session: int) -> np.ndarray:
        probe = Workloads(kernels, widths[None], ("probe",))
        return np.median(whole.measure(probe, every, runs=RUNS, seed=session)[:, 0], axis=1)

    fingerprint = np.stack([medians(row, number) for number, row in enumerate(probes)], axis=1)
    # Noise is a factor that does not depend on what is measured: that of the dense model serves for all of a session.
    dense = whole.true_latency_ms(Workloads(kernels, probes[:1], ("dense",)))[:, 0]
    noise = np.stack([medians(probes[0], 100 + number) / dense for number in range(n_models)], axis=1)
    for number in range(n_fleets):
        rows = slice(number * n_devices, (number + 1) * n_devices)
        true = whole.true_latency_ms(pruned(kernels, n_models, seed=number), every[rows])
        yield Replication(one_fleet, fingerprint[rows], true * noise[rows], true.mean(axis=0), number)
