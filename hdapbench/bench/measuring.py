"""Measurer: latencies of widths on a fleet, in sessions that repeat."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from hdapbench.arrays import Floats, Integers
from hdapbench.bench.network import Network
from hdapbench.fleet.base import Fleet
from hdapbench.fleet.estimate.clustered import ClusteredFleet, ClusterMeasurement, fingerprint_fleet
from hdapbench.fleet.estimate.clustering import cluster_devices
from hdapbench.spec import ClusteringSpec

Session = tuple[int | str, ...]
"""Names a measuring session. Its measurements share the devices' drift; the same session repeats the same numbers."""


@dataclass(frozen=True)
class Measurer:
    """Times models of given widths on the devices of a fleet.

    Attributes
    ----------
    network
        The traced dense model.
    fleet, clustering, runs
        The devices, how they are clustered, and repeats per measurement.
    """

    network: Network
    fleet: Fleet
    clustering: ClusteringSpec
    runs: int

    @cached_property
    def clusters(self) -> ClusteredFleet:
        """The fleet, fingerprinted and clustered once for this model."""
        return fingerprint_fleet(
            self.fleet,
            self.network.kernels,
            clustering=self.clustering,
            runs=self.runs,
            seed=session_seed("fingerprint"),
            variants=self.network.variants,
        )

    def forget_clusters(self) -> None:
        """Fingerprint and cluster the fleet anew when it is next asked: devices were lost."""
        self.__dict__.pop("clusters", None)

    def on_clusters(self, widths: Integers, *, session: Session, cluster: int | None = None) -> ClusterMeasurement:
        """Latencies of plans of these widths, shape (n_plans, n_groups), on every cluster's representative or one's."""
        workloads, seed = self.network.workloads(widths), session_seed(*session)
        return self.clusters.measure_clusters(workloads, runs=self.runs, seed=seed, cluster=cluster)

    def average_ms(self, widths: ArrayLike, *, session: Session) -> float:
        """Average clustered latency in ms of one plan's widths, shape (n_groups,), as boards estimate it."""
        plans = np.asarray(widths, dtype=np.int64).reshape(1, -1)
        measured = self.on_clusters(plans, session=session)
        estimate = self.clusters.average(measured.device_latency_ms, measured.devices)
        return float(estimate.mean_ms[0])

    def shares(self, widths: Integers, *, session: Session) -> Floats:
        """Average clustered latencies as shares of the dense model's in the same session, shape (n_plans,).

        Every plan is measured by itself, as the runner measures the one that it is handed.
        """
        dense_ms = self.average_ms(self.network.cost.sizes, session=session)
        return np.array([self.average_ms(plan, session=session) / dense_ms for plan in widths])

    def on_nominal_board(self, widths: Integers, *, session: Session) -> Floats:
        """Latency in ms of plans of these widths on one nominal board, shape (n_plans,).

        A simulated fleet has one; of a measured fleet it is the device nearest to the fleet's mean fingerprint.
        """
        workloads, seed = self.network.workloads(widths), session_seed(*session)
        samples = self.fleet.sample_nominal(workloads, runs=self.runs, seed=seed)
        if samples is None:
            fleet = self.clusters.fleet  # without the devices that were lost
            whole = cluster_devices(self.clusters.fingerprint_ms, n_clusters=1, weights=fleet.weights)
            device = np.array(whole.representatives, dtype=np.int64)
            samples = fleet.measure(workloads, device, runs=self.runs, seed=seed)[0]
        return np.asarray(np.median(samples, axis=1), dtype=np.float64)


def scoring_session(seed: int) -> Session:
    """The measuring session in which the runner judges plans of a seed; no method measures in it."""
    return ("score", seed)


def session_seed(*parts: int | str) -> int:
    """Seed of a measuring session, the same for the same parts on every machine."""
    words = [part if isinstance(part, int) else int.from_bytes(part.encode()[:16], "big") for part in parts]
    return int(np.random.SeedSequence([abs(word) for word in words]).generate_state(1)[0])
