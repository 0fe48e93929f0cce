"""Workbench: the traced model, its data, its fleet and the recipe, as one trial after another shares them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hdapbench.errors import PlanError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from hdapbench.data import DataSplits, Samples
    from hdapbench.fleet.base import Fleet
    from hdapbench.fleet.estimate import ClusteredFleet, ClusterMeasurement
    from hdapbench.network import Network
    from hdapbench.plan import Plan
    from hdapbench.spec import ClusteringSpec, Recipe
    from hdapbench.tasks.task import Objective, Scores, Task
    from hdapbench.tasks.training import EpochReport, Regularizer, TrainReport

PROBE_IMAGES = 4
"""Images on which masked and compact model are compared whenever a plan is applied."""


@dataclass(frozen=True)
class Workbench:
    """Everything a trial works with. Nothing in it changes from one trial to the next.

    Attributes
    ----------
    network
        The trained dense model and its trace.
    data
        Disjoint train, search and test splits.
    fleet, clustering, runs
        The devices, how they are clustered, and repeats per measurement.
    recipe
        How models are fine-tuned, the same for every method.
    directory
        Where weights that methods hand over are kept.
    task_name
        What the network does.
    device
        Where models are trained and evaluated.
    """

    network: Network
    data: DataSplits
    fleet: Fleet
    clustering: ClusteringSpec
    runs: int
    recipe: Recipe
    directory: Path
    task_name: str = "classification"
    device: str = "cpu"

    @cached_property
    def task(self) -> Task:
        """What the network is trained for and judged by."""
        from hdapbench.tasks.task import open_task

        return open_task(self.task_name)

    @cached_property
    def probe(self) -> Tensor:
        """Normalised training images on which every applied plan is checked."""
        images, _ = next(iter(self.data.train.batches(PROBE_IMAGES, shuffle_seed=None)))
        return images

    def apply(self, plan: Plan) -> tuple[nn.Module, float]:
        """Physically smaller model of a plan, and its largest difference from the masked model on the probe.

        Raises
        ------
        PlanError
            When the plan does not fit the model.
        SurgeryError
            When compact and masked model disagree.
        """
        from hdapbench.prune.surgery import checked_apply

        plan.check(self.network.group_set.sizes)
        return checked_apply(self._dense_model(plan), self.network.group_set, plan, self.probe)

    def train(
        self,
        model: nn.Module,
        *,
        epochs: float,
        seed: int,
        on_epoch: Callable[[EpochReport], None] | None = None,
        regularize: Regularizer | None = None,
    ) -> TrainReport:
        """Train a model in place on the training split by the common recipe; the dense model teaches where it says so.

        Parameters
        ----------
        regularize
            Called with the model after every backward pass; it may change the gradients.
        """
        from hdapbench.tasks.training import Setting, fit

        return fit(
            model,
            self.data.train,
            self.recipe,
            setting=Setting(self.task, self.device, teacher=self.network.model),
            epochs=epochs,
            seed=seed,
            on_epoch=on_epoch,
            regularize=regularize,
        )

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Scalar training loss of a batch of outputs, the mean over its images."""
        return self._objective(outputs, labels)

    @cached_property
    def _objective(self) -> Objective:
        return self.task.objective(self.network.model)

    def search_accuracy(self, model: nn.Module) -> float:
        """The task's metric in [0, 1] on the search split."""
        return self._scores(model, self.data.search).accuracy

    def test_scores(self, model: nn.Module) -> Scores:
        """The task's scores on the test split; for the runner alone."""
        return self._scores(model, self.data.test)

    def _scores(self, model: nn.Module, data: Samples) -> Scores:
        from hdapbench.tasks.training import on_device

        with on_device(model, self.device):
            return self.task.scores(model, data)

    def clustered_fleet(self) -> ClusteredFleet:
        """The fleet, fingerprinted and clustered once for this model."""
        return self._clustered_fleet

    @cached_property
    def _clustered_fleet(self) -> ClusteredFleet:
        from hdapbench.fleet.estimate import fingerprint_fleet

        seed = session_seed("fingerprint")
        return fingerprint_fleet(
            self.fleet, self.network.kernels, clustering=self.clustering, runs=self.runs, seed=seed
        )

    def measure_clusters(
        self, widths: NDArray[np.int64], *, session: tuple[int | str, ...], cluster: int | None = None
    ) -> ClusterMeasurement:
        """Latencies of plans of these widths, shape (n_plans, n_groups), on every cluster's representative or one's.

        Measurements of one session share the devices' drift; the same session gives the same numbers.
        """
        from hdapbench.fleet.base import Workloads

        ids = tuple("w" + "-".join(str(int(width)) for width in row) for row in widths)
        workloads = Workloads(kernels=self.network.kernels, widths=widths, ids=ids)
        seed = session_seed(*session)
        return self.clustered_fleet().measure_clusters(workloads, runs=self.runs, seed=seed, cluster=cluster)

    def measure_nominal(self, widths: NDArray[np.int64], *, session: tuple[int | str, ...]) -> NDArray[np.float64]:
        """Latency in ms of plans of these widths on one nominal board, shape (n_plans,).

        A simulated fleet has one; of a measured fleet it is the device nearest to the fleet's mean fingerprint.
        """
        from hdapbench.fleet.base import Workloads
        from hdapbench.fleet.clustering import cluster_devices

        ids = tuple("w" + "-".join(str(int(width)) for width in row) for row in widths)
        workloads = Workloads(kernels=self.network.kernels, widths=widths, ids=ids)
        seed = session_seed(*session)
        samples = self.fleet.sample_nominal(workloads, runs=self.runs, seed=seed)
        if samples is None:
            whole = cluster_devices(self.clustered_fleet().fingerprint_ms, n_clusters=1, weights=self.fleet.weights)
            device = np.array(whole.representatives, dtype=np.int64)
            samples = self.fleet.measure(workloads, device, runs=self.runs, seed=seed)[0]
        return np.asarray(np.median(samples, axis=1), dtype=np.float64)

    def keep_weights(self, model: nn.Module) -> str:
        """Handle of the model's weights, stored by content hash; they must have the dense model's shapes.

        Raises
        ------
        PlanError
            When a shape differs from the dense model's.
        """
        import torch

        from hdapbench.models import state_hash

        state = {name: value.detach().clone() for name, value in model.state_dict().items()}
        dense = self.network.model.state_dict()
        wrong = [name for name in dense if name not in state or state[name].shape != dense[name].shape]
        if wrong or len(state) != len(dense):
            raise PlanError(f"keep_weights needs weights in the dense model's shapes; these differ: {wrong[:5]}")
        handle = state_hash(state)[:16]
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"{handle}.pt"
        if not path.exists():
            partial = path.with_suffix(".partial")
            torch.save(state, partial)
            partial.replace(path)
        return handle

    def _dense_model(self, plan: Plan) -> nn.Module:
        if plan.weights is None:
            return self.network.model
        from copy import deepcopy

        from hdapbench.models import load_weights

        model = deepcopy(self.network.model)
        load_weights(model, self.directory / f"{plan.weights}.pt")
        return model


def session_seed(*parts: int | str) -> int:
    """Seed of a measuring session, the same for the same parts on every machine."""
    words = [part if isinstance(part, int) else int.from_bytes(part.encode()[:16], "big") for part in parts]
    return int(np.random.SeedSequence([abs(word) for word in words]).generate_state(1)[0])
