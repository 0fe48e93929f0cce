"""Workbench: what all trials on one fleet share, and the parts that work with it. The test split is not on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hdapbench.bench.compaction import Compactor
from hdapbench.bench.limit import Limit
from hdapbench.bench.measuring import Measurer, scoring_session
from hdapbench.bench.network import Network
from hdapbench.bench.quantization import Quantizer
from hdapbench.bench.training import Trainer
from hdapbench.bench.weights import WeightStore
from hdapbench.cost.hardware import reference_cost
from hdapbench.cost.limits import LIMITED_BY
from hdapbench.data import Samples
from hdapbench.fleet.base import Fleet
from hdapbench.spec import ClusteringSpec, CostTarget, Recipe
from hdapbench.tasks.checkpoint import Checkpoints
from hdapbench.tasks.open import open_task


@dataclass(frozen=True)
class Workbench:
    """Everything a trial works with; the same for all trials on a fleet.

    Attributes
    ----------
    network
        The trained dense model and its trace.
    train, search
        Disjoint sets of images, to train on and to score on while searching.
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
    checkpoints
        Where long trainings are kept while they last.
    """

    network: Network
    train: Samples
    search: Samples
    fleet: Fleet
    clustering: ClusteringSpec
    runs: int
    recipe: Recipe
    directory: Path
    task_name: str = "classification"
    device: str = "cpu"
    checkpoints: Checkpoints | None = None

    @cached_property
    def weights(self) -> WeightStore:
        """Weights and files that methods hand over."""
        return WeightStore(self.network.model, self.directory)

    @cached_property
    def trainer(self) -> Trainer:
        """Training, recalibration and scoring."""
        task = open_task(self.task_name)
        return Trainer(self.network.model, self.train, self.search, task, self.recipe, self.device, self.checkpoints)

    @cached_property
    def compactor(self) -> Compactor:
        """Plans applied to the dense model."""
        return Compactor(self.network, self.weights, self.trainer)

    @cached_property
    def quantizer(self) -> Quantizer:
        """Fake quantisation."""
        return Quantizer(self.network, self.train, self.weights)

    @cached_property
    def measurer(self) -> Measurer:
        """Latencies on the fleet."""
        return Measurer(self.network, self.fleet, self.clustering, self.runs)

    @cached_property
    def shared(self) -> dict[tuple[int, object], object]:
        """(Seed, key) -> what trials of one seed make once; see `hdapbench.method.training.Training.shared`."""
        return {}

    def limit(self, target: CostTarget, *, seed: int) -> Limit:
        """Limit of a target for plans of a seed; a limit on latency measures the dense model."""
        return Limit.joint([self._limit(part, seed=seed) for part in target.parts])

    def _limit(self, target: CostTarget, *, seed: int) -> Limit:
        cost = self.network.cost
        if target.kind == "flops":
            return Limit.on_flops(target.resolve(cost.dense.flops))
        if target.kind == "latency":
            dense_ms = self.measurer.average_ms(cost.sizes, session=scoring_session(seed))
            return Limit(target.kind, target.share(dense_ms), cost.dense.flops, dense_ms)
        name, factor = LIMITED_BY[target.kind]
        amount = target.resolve(reference_cost(name, self.quantizer.folded.layers) / factor)
        return Limit(target.kind, amount, cost.dense.flops)
