"""Workbench: the traced model, its data, its fleet and the recipe, as one trial after another shares them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hdapbench.errors import PlanError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor, nn

    from hdapbench.bench.network import Network
    from hdapbench.data import DataSplits, Samples
    from hdapbench.fleet.base import Fleet
    from hdapbench.fleet.estimate.clustered import ClusteredFleet, ClusterMeasurement
    from hdapbench.plan import Plan
    from hdapbench.prune.reconstruct import InputStatistics
    from hdapbench.quant.deploy.post_training import OnnxNetwork, PostTraining
    from hdapbench.quant.deploy.report import Deployed
    from hdapbench.quant.graph.folded import FoldedModel
    from hdapbench.quant.training.fixed import FixedNetwork
    from hdapbench.spec import ClusteringSpec, CostTarget, Recipe, TargetKind
    from hdapbench.tasks.task import Objective, Scores, Task
    from hdapbench.tasks.training import EpochReport, Regularizer, TrainReport
    from hdapbench.trial import BitMetrics

RECALIBRATION_BATCH = 128
RECALIBRATION_IMAGES = 1024
"""Training images over which batch norms are estimated anew, and inputs of layers looked at."""
PROBE_IMAGES = 4
"""Images on which masked and compact model are compared whenever a plan is applied."""

DEPLOY_BATCH = 100
"""Images per batch where whole numbers are computed with: windows are unfolded in memory."""

CALIBRATION_IMAGES = 512
"""Training images that first clips of activations are found on."""


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
        from hdapbench.tasks.open import open_task

        return open_task(self.task_name)

    @cached_property
    def probe(self) -> Tensor:
        """Normalised training images on which every applied plan is checked."""
        images, _ = next(iter(self.data.train.batches(PROBE_IMAGES, shuffle_seed=None)))
        return images

    def apply(self, plan: Plan, *, reconstruct: bool = False) -> tuple[nn.Module, float]:
        """Physically smaller model of a plan, and its largest difference from the masked model on the probe.

        Parameters
        ----------
        reconstruct
            Let weights make up for removed channels, and recalibrate batch norms; see `reconstructed`.

        Raises
        ------
        PlanError
            When the plan does not fit the model.
        SurgeryError
            When compact and masked model disagree.
        """
        from hdapbench.prune.surgery import checked_apply

        plan.check(self.network.group_set.sizes)
        compact, difference = checked_apply(self._dense(plan, reconstruct), self.network.group_set, plan, self.probe)
        if reconstruct:
            self.recalibrate(compact, self._train_batches(RECALIBRATION_IMAGES, seed=0))
        return compact, difference

    def reconstructed(self, plan: Plan) -> str:
        """Handle of weights that make up for a plan's removed channels (`hdapbench.prune.reconstruct`).

        Raises
        ------
        ModelError
            When a layer cannot be looked at.
        """
        return self._kept_dense(plan, self.apply(plan, reconstruct=True)[0])

    def _dense(self, plan: Plan, reconstruct: bool) -> nn.Module:
        """What a plan is cut from."""
        dense = self.dense_model(plan.weights)
        if not reconstruct:
            return dense
        from hdapbench.prune.reconstruct import input_statistics, reconstructed
        from hdapbench.tasks.training import on_device

        known, groups = self._input_statistics, self.network.group_set
        if plan.weights not in known:
            for other in [handle for handle in known if handle is not None]:
                del known[other]  # of an earlier iteration or another trial
            batches = self._train_batches(RECALIBRATION_IMAGES, seed=0)
            with on_device(dense, self.device):
                images = (images.to(self.device) for images, _ in batches)
                known[plan.weights] = input_statistics(dense, groups, images)
        return reconstructed(dense, groups, plan, known[plan.weights])

    @cached_property
    def _input_statistics(self) -> dict[str | None, InputStatistics]:
        """Of the dense model (None), and of one set of weights."""
        return {}

    def _train_batches(self, n_images: int, *, seed: int) -> Iterable[tuple[Tensor, Tensor]]:
        return self.data.train.batches(RECALIBRATION_BATCH, shuffle_seed=seed, limit=n_images)

    def _kept_dense(self, plan: Plan, compact: nn.Module) -> str:
        """Handle of a compact model's weights, back in the dense model's shapes."""
        from hdapbench.prune.expand import expand_weights
        from hdapbench.prune.surgery import mask_model

        groups = self.network.group_set
        # Removed channels are zero: scores of the model as it then is give them nothing.
        masked = mask_model(self.dense_model(plan.weights), groups, plan)
        return self.keep_weights(expand_weights(masked, compact, groups, plan))

    @cached_property
    def folded(self) -> FoldedModel:
        """The dense model with its batch norms folded, and its traces for quantisation.

        Raises
        ------
        UnknownLayerError
            Naming every node that has no integer counterpart.
        """
        return self._fold(self.network.model)

    def _fold(self, model: nn.Module) -> FoldedModel:
        from hdapbench.quant.graph.folded import FoldedModel

        signed = bool((self._calibration_images[0] < 0).any())
        return FoldedModel.of(model, self.network.input_shape, signed_input=signed)

    @cached_property
    def _calibration_images(self) -> list[Tensor]:
        batches = self.data.train.batches(CALIBRATION_IMAGES, shuffle_seed=0, limit=CALIBRATION_IMAGES)
        return [images for images, _ in batches]

    def calibrate(self, folded: FoldedModel, bits: Sequence[int] = (8,)) -> Tensor:
        """First clips of a folded model's activations, shape (n_quantizers, n_bits, 2), from training images."""
        from hdapbench.quant.training.calibrate import calibrate_clips

        return calibrate_clips(folded.model, folded.graph, self._calibration_images, bits=bits)

    def quantize(self, model: nn.Module, plan: Plan) -> tuple[FixedNetwork, FoldedModel]:
        """Fake-quantised network of a plan's bit-widths, from its compact float model, and that model folded.

        Raises
        ------
        PlanError
            When the bit-widths do not fit the model.
        UnknownLayerError
            Naming every node that has no integer counterpart.
        """
        from hdapbench.quant.training.fixed import FixedNetwork

        folded = self._fold(model)
        names = [quantizer.name for quantizer in folded.graph.quantizers]
        chosen = [plan.activation_bits.get(name, 8) for name in names]
        kinds = sorted(set(chosen))
        clips = self.calibrate(folded, kinds)
        clip = clips[range(len(chosen)), [kinds.index(bits) for bits in chosen]]
        network = FixedNetwork(folded.model, folded.graph, clip, weight_bits=plan.weight_bits, activation_bits=chosen)
        return network.eval(), folded

    def quantize_after_training(self, options: PostTraining) -> str:
        """Handle of the dense model's ONNX file as onnxruntime's own quantiser makes it, stored by content hash.

        Raises
        ------
        ModelError
            When the model cannot be exported or quantised.
        """
        import hashlib

        from hdapbench.quant.deploy.post_training import quantize_after_training

        content = quantize_after_training(self.network.model, self._calibration_images, options)
        handle = hashlib.sha256(content).hexdigest()[:16]
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"{handle}.onnx"
        if not path.exists():
            partial = path.with_suffix(".partial")
            partial.write_bytes(content)
            partial.replace(path)
        return handle

    def onnx_network(self, handle: str) -> OnnxNetwork:
        """The network of a stored ONNX file, computed by onnxruntime."""
        from hdapbench.quant.deploy.post_training import OnnxNetwork

        return OnnxNetwork((self.directory / f"{handle}.onnx").read_bytes())

    def describe_onnx(self, network: OnnxNetwork, model: nn.Module, plan: Plan) -> BitMetrics:
        """What an ONNX file of a plan costs, and where it differs from a float model; for the runner alone."""
        from hdapbench.quant.deploy.report import describe_onnx

        batches = self.data.test.batches(DEPLOY_BATCH, shuffle_seed=None)
        return describe_onnx(network, model, self._fold(model), plan.weight_bits, batches)

    def bit_limit(self, target: CostTarget) -> int:
        """What a target on size or cycles allows: bytes of weights, or cycles."""
        from hdapbench.cost.hardware import LIMITED_BY, reference_cost

        name, factor = LIMITED_BY[target.kind]
        return target.resolve(reference_cost(name, self.folded.layers) / factor)

    def bit_cost(self, plan: Plan, kind: TargetKind) -> float:
        """Exact cost of a plan with bit-widths, in the unit of that kind of target: bytes of weights, or cycles.

        Raises
        ------
        PlanError
            When the plan has no bit-widths, or they do not fit the model.
        """
        from hdapbench.cost.hardware import LIMITED_BY, hardware_cost

        if not plan.weight_bits:
            raise PlanError(f"a {kind} target asks for bit-widths, and the plan has none (Plan.weight_bits)")
        network, folded = self.quantize(self.apply(plan)[0], plan)
        inputs = {name: network.activation_bits[place] for name, place in network.graph.input_quantizers.items()}
        name, factor = LIMITED_BY[kind]
        return (
            float(hardware_cost(name)(folded.layers, folded.layers.counts_of_layers(plan.weight_bits, inputs))) / factor
        )

    def deploy(self, network: FixedNetwork, folded: FoldedModel) -> Deployed:
        """Whole-number form of a quantised network, compared with it on the test split; for the runner alone."""
        from hdapbench.quant.deploy.report import deploy

        return deploy(network, folded, self.data.test.batches(DEPLOY_BATCH, shuffle_seed=None))

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
        from hdapbench.tasks.training import Setting, train_model

        return train_model(
            model,
            self.data.train,
            self.recipe,
            setting=Setting(self.task, self.device, teacher=self.network.model),
            epochs=epochs,
            seed=seed,
            on_epoch=on_epoch,
            regularize=regularize,
        )

    def fine_tuned(self, plan: Plan, *, epochs: float, seed: int) -> str:
        """Handle of a plan's weights after fine-tuning it by the common recipe, back in the dense model's shapes."""
        model, _ = self.apply(plan)
        self.train(model, epochs=epochs, seed=seed)
        return self._kept_dense(plan, model)

    def recalibrated_loss(self, plan: Plan, *, n_images: int, seed: int, reconstruct: bool = False) -> float:
        """Mean loss of a plan on search images, after its batch norms saw ``n_images`` training images.

        Parameters
        ----------
        n_images
            Of the training split for the norms, and at most of the search split for the loss.
        seed
            Which training images.
        reconstruct
            Let weights make up for removed channels first.

        Raises
        ------
        PlanError
            When the plan does not fit the model.
        """
        import torch

        from hdapbench.prune.surgery import apply_plan
        from hdapbench.tasks.recalibrate import recalibrate
        from hdapbench.tasks.training import on_device

        # Candidates of a search are not compared with their masked model: what is chosen of them is, by `apply`.
        model = apply_plan(self._dense(plan, reconstruct), self.network.group_set, plan)
        model.to(memory_format=torch.channels_last)
        total, count = 0.0, 0
        with on_device(model, self.device), torch.no_grad():
            many = (i.to(self.device) for i, _ in self._train_batches(n_images, seed=seed) if len(i) > 1)
            recalibrate(model, (images.contiguous(memory_format=torch.channels_last) for images in many))
            model.eval()
            for images, labels in self.data.search.batches(RECALIBRATION_BATCH, shuffle_seed=None, limit=n_images):
                outputs = model(images.to(self.device).contiguous(memory_format=torch.channels_last))
                total += float(self.loss(outputs, labels.to(self.device))) * len(images)
                count += len(images)
        return total / count

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Scalar training loss of a batch of outputs, the mean over its images."""
        return self._objective(outputs, labels)

    @cached_property
    def _objective(self) -> Objective:
        return self.task.objective(self.network.model)

    def recalibrate(self, model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Estimate a model's batch norm statistics anew, in place, over batches of images and labels."""
        from hdapbench.tasks.recalibrate import recalibrate
        from hdapbench.tasks.training import on_device

        with on_device(model, self.device):
            # One image has no variance.
            recalibrate(model, (images.to(self.device) for images, _ in batches if len(images) > 1))

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
        from hdapbench.fleet.estimate.clustered import fingerprint_fleet

        seed = session_seed("fingerprint")
        return fingerprint_fleet(
            self.fleet,
            self.network.kernels,
            clustering=self.clustering,
            runs=self.runs,
            seed=seed,
            variants=self.network.variants,
        )

    def measure_clusters(
        self, widths: NDArray[np.int64], *, session: tuple[int | str, ...], cluster: int | None = None
    ) -> ClusterMeasurement:
        """Latencies of plans of these widths, shape (n_plans, n_groups), on every cluster's representative or one's.

        Measurements of one session share the devices' drift; the same session gives the same numbers.
        """
        workloads, seed = self.network.workloads(widths), session_seed(*session)
        return self.clustered_fleet().measure_clusters(workloads, runs=self.runs, seed=seed, cluster=cluster)

    def average_latency(self, widths: ArrayLike, *, session: tuple[int | str, ...]) -> float:
        """Average clustered latency in ms of one plan's widths, shape (n_groups,), as boards estimate it."""
        plans = np.asarray(widths, dtype=np.int64).reshape(1, -1)
        measured = self.measure_clusters(plans, session=session)
        estimate = self.clustered_fleet().average(measured.device_latency_ms, measured.devices)
        return float(estimate.mean_ms[0])

    def latency_shares(self, widths: NDArray[np.int64], *, session: tuple[int | str, ...]) -> NDArray[np.float64]:
        """Average clustered latencies as shares of the dense model's in the same session, shape (n_plans,).

        Every plan is measured by itself, as the runner measures the one that it is handed.
        """
        dense_ms = self.average_latency(self.network.cost.sizes, session=session)
        return np.array([self.average_latency(plan, session=session) / dense_ms for plan in widths])

    def measure_nominal(self, widths: NDArray[np.int64], *, session: tuple[int | str, ...]) -> NDArray[np.float64]:
        """Latency in ms of plans of these widths on one nominal board, shape (n_plans,).

        A simulated fleet has one; of a measured fleet it is the device nearest to the fleet's mean fingerprint.
        """
        from hdapbench.fleet.estimate.clustering import cluster_devices

        workloads, seed = self.network.workloads(widths), session_seed(*session)
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

    def dense_model(self, weights: str | None = None) -> nn.Module:
        """The dense model, or a copy with weights that ``keep_weights`` stored."""
        if weights is None:
            return self.network.model
        from copy import deepcopy

        from hdapbench.models import load_weights

        model = deepcopy(self.network.model)
        load_weights(model, self.directory / f"{weights}.pt")
        return model


def scoring_session(seed: int) -> tuple[int | str, ...]:
    """The measuring session in which the runner judges plans of a seed; no method measures in it."""
    return ("score", seed)


def session_seed(*parts: int | str) -> int:
    """Seed of a measuring session, the same for the same parts on every machine."""
    words = [part if isinstance(part, int) else int.from_bytes(part.encode()[:16], "big") for part in parts]
    return int(np.random.SeedSequence([abs(word) for word in words]).generate_state(1)[0])
