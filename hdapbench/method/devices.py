"""Devices: what a method may ask the fleet, each question charged in device queries before it is asked."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hdapbench.arrays import Floats, Integers, own_copy
from hdapbench.method.budget import Budget

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hdapbench.bench.workbench import Workbench
    from hdapbench.cost.kernels import KernelModel
    from hdapbench.cost.tiling import Tiling
    from hdapbench.fleet.estimate.clustered import ClusteredFleet


class Devices:
    """The fleet of a problem. The first look at its clusters is charged with the queries of its fingerprint.

    Parameters
    ----------
    bench
        Where the fleet is.
    seed
        Of the trial: measuring sessions are named after it.
    budget
        Where device queries are charged.
    """

    def __init__(self, bench: Workbench, *, seed: int, budget: Budget) -> None:
        self._bench, self._seed, self._budget = bench, seed, budget
        self._n_sessions = 0
        self._fingerprint_charged = False

    @cached_property
    def kernels(self) -> KernelModel:
        """Fused kernels over widths, in the order of the groups: shapes and physics features, not latencies."""
        return own_copy(self._bench.network.kernels)  # whatever is done to them

    @property
    def tiling(self) -> Tiling:
        """What the fleet's runtimes pad channels to, as far as is known without measuring."""
        return self._bench.fleet.tiling

    @property
    def cluster_weights(self) -> Floats:
        """Share of the fleet in each cluster, shape (n_clusters,), summing to one."""
        return own_copy(self._clusters().clustering.weights)

    @property
    def n_measured(self) -> int:
        """Number of devices measured per plan, and of device queries that it costs."""
        return self._clusters().n_measured

    @property
    def nominal_cluster(self) -> int:
        """The cluster of most devices: its representative stands for the SKU where only one device is asked."""
        return int(np.argmax(self.cluster_weights))

    def latency(self, widths: NDArray[np.integer[Any]], *, cluster: int | None = None) -> Floats:
        """Latency in ms of plans on each cluster's measured devices, shape (n_plans, n_clusters).

        Parameters
        ----------
        widths
            Kept channels per group, shape (n_plans, n_groups). One device query is charged per plan and measured
            device.
        cluster
            Ask this cluster's representative alone: shape (n_plans, 1), and one device query per plan.
        """
        plans, n_measured = _rows(widths), self._clusters().n_measured
        self._budget.charge("device_queries", len(plans) * (n_measured if cluster is None else 1))
        measured = self._bench.measurer.on_clusters(plans, session=self._session(), cluster=cluster)
        return measured.latency_ms

    def latency_share(self, widths: NDArray[np.integer[Any]]) -> Floats:
        """Average clustered latency of plans as a share of the dense model's, shape (n_plans,).

        It is what latency targets limit. The runner measures likewise, in a session of its own; its share is another
        one, by as much as sessions differ.

        Parameters
        ----------
        widths
            Kept channels per group, shape (n_plans, n_groups). One device query is charged per plan and measured
            device, and as many as one plan's for the dense model.
        """
        plans = _rows(widths)
        self._budget.charge("device_queries", (len(plans) + 1) * self._clusters().n_measured)
        return self._bench.measurer.shares(plans, session=self._session())

    def nominal_latency(self, widths: NDArray[np.integer[Any]]) -> Floats:
        """Latency in ms of plans on one nominal board, shape (n_plans,): what a developer without a fleet measures.

        Parameters
        ----------
        widths
            Kept channels per group, shape (n_plans, n_groups). One device query is charged per plan.
        """
        plans = _rows(widths)
        self._budget.charge("device_queries", len(plans))
        return self._bench.measurer.on_nominal_board(plans, session=self._session("nominal"))

    def _session(self, *parts: str) -> tuple[int | str, ...]:
        """A measuring session of its own."""
        self._n_sessions += 1
        return (self._seed, *parts, self._n_sessions)

    def _clusters(self) -> ClusteredFleet:
        clusters = self._bench.measurer.clusters
        if not self._fingerprint_charged:
            self._budget.charge("device_queries", clusters.n_fingerprint_queries)
            self._fingerprint_charged = True
        return clusters


def _rows(widths: NDArray[np.integer[Any]]) -> Integers:
    """Widths with one plan per row."""
    return np.atleast_2d(np.asarray(widths, dtype=np.int64))
