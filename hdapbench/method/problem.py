"""Problem: what a method may ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hdapbench.bench.workbench import RECALIBRATION_IMAGES
from hdapbench.method.budget import Budget
from hdapbench.method.decisions import as_json
from hdapbench.plan import Plan
from hdapbench.spec import TargetKind

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from hdapbench.bench.workbench import Workbench
    from hdapbench.cost.kernels import KernelModel
    from hdapbench.cost.model import CostModel, Costs
    from hdapbench.cost.tiling import Tiling
    from hdapbench.fleet.estimate.clustered import ClusteredFleet
    from hdapbench.groups import ChannelGroup
    from hdapbench.quant.deploy.post_training import PostTraining
    from hdapbench.quant.graph.folded import FoldedModel

GRADIENT_CRITERIA = frozenset({"taylor", "sqrt_taylor", "fisher"})
GRADIENT_IMAGES = 512


class Problem:
    """What a method may ask. Costly calls are charged to ``budget`` before they are carried out.

    Everything is reproducible from ``seed``: two problems of the same trial give the same answers to the same calls.
    The test split is out of reach.

    Parameters
    ----------
    workbench
        The traced model, its data and its fleet.
    target_flops
        Multiply-accumulates that the plan must not exceed.
    seed
        Seed of the trial.
    budget
        Where costly calls are charged.
    on_progress
        Receives a line of text now and then.
    limit
        What the target limits, by kind and amount, when it is not FLOPs: bytes of packed weights, cycles, or a share of
        the dense model's average clustered latency.
    """

    def __init__(
        self,
        workbench: Workbench,
        *,
        target_flops: int,
        seed: int,
        budget: Budget,
        on_progress: Callable[[str], None] | None = None,
        limit: tuple[TargetKind, float] | None = None,
    ) -> None:
        self._bench = workbench
        self._network = workbench.network
        self._on_progress = on_progress
        self._n_sessions = 0
        self._clusters_charged = False
        self._looked_at: set[str | None] = set()
        self.target_flops = target_flops
        self.limit: tuple[TargetKind, float] = limit or ("flops", target_flops)
        self.seed = seed
        self.budget = budget
        self.rng = np.random.default_rng([seed, 0x48444150])
        self.decisions: dict[str, Any] = {}
        self.groups: Mapping[str, ChannelGroup] = {group.name: group for group in self._network.group_set.groups}

    # What is known for free ------------------------------------------------------------------------------------

    @property
    def cost(self) -> CostModel:
        """Exact costs over widths, in the order of ``groups``."""
        return self._network.cost

    @property
    def kernels(self) -> KernelModel:
        """Fused kernels over widths, in the order of ``groups``: shapes and physics features, not latencies."""
        return self._network.kernels

    @property
    def tiling(self) -> Tiling:
        """What the fleet's runtimes pad channels to, as far as is known without measuring."""
        return self._bench.fleet.tiling

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Channels of each group in the dense model, shape (n_groups,)."""
        return self._network.cost.sizes

    @property
    def n_train_images(self) -> int:
        """Training images of one epoch: those of the spec's recipe (``max_train_images``), or the whole split."""
        n_images = len(self._bench.data.train)
        return min(n_images, self._bench.recipe.max_train_images or n_images)

    @property
    def n_search_images(self) -> int:
        """Images in the search split: how finely ``accuracy`` resolves."""
        return len(self._bench.data.search)

    @property
    def fine_tune_epochs(self) -> float:
        """Epochs of fine-tuning that the runner will give every method's plan."""
        return float(self._bench.recipe.epochs)

    def costs(self, plans: Sequence[Plan]) -> Costs:
        """Exact FLOPs, parameters and bytes of plans, arrays of shape (n_plans,)."""
        return self.cost.evaluate(np.array([plan.widths(list(self.groups)) for plan in plans]))

    def example_input(self) -> Tensor:
        """Two normalised training images, shape (2, channels, height, width)."""
        images, _ = next(iter(self.batches(2, batch_size=2)))
        return images

    def model(self, weights: str | None = None) -> nn.Module:
        """Fresh deep copy of the trained dense model, in eval mode, with gradients enabled.

        Parameters
        ----------
        weights
            Instead of the dense model's: those of ``Plan.weights``.
        """
        from copy import deepcopy

        return deepcopy(self._bench.dense_model(weights)).eval().requires_grad_(True)

    def folded(self) -> FoldedModel:
        """The dense model with its batch norms folded, ready for quantisation; shared, so copy before changing it.

        Raises
        ------
        UnknownLayerError
            Naming every node that has no integer counterpart.
        """
        return self._bench.folded

    def calibrate(self, folded: FoldedModel, bits: Sequence[int] = (8,)) -> Tensor:
        """First clips of a folded model's activations, shape (n_quantizers, n_bits, 2), from training images."""
        return self._bench.calibrate(folded, bits)

    def progress(self, text: str) -> None:
        """Tell whoever watches what is going on; also the place where an overlong method is stopped."""
        self.budget.check_time()
        if self._on_progress is not None:
            self._on_progress(text)

    def remember(self, name: str, value: Any) -> None:
        """Keep a value of `hdapbench.method.decisions` or any JSON-able fact; ``hdapbench explain`` shows it.

        Raises
        ------
        TypeError
            When the value cannot be written as JSON.
        """
        self.decisions[name] = as_json(value)

    # Plans -----------------------------------------------------------------------------------------------------

    def solve_ratio(self, steps: int = 12, round_to: int = 1) -> float:
        """Largest share of channels that every group may keep under the target, in (0, 1].

        Parameters
        ----------
        steps
            Bisection steps.
        round_to
            Widths are rounded to multiples of this, except in groups smaller than it.

        Raises
        ------
        TargetUnreachableError
            When even the smallest widths exceed the target.
        """
        from hdapbench.cost.target import largest_share

        return largest_share(self.cost, self.target_flops, steps=steps, round_to=round_to)

    def plan_by_importance(
        self,
        shares: Mapping[str, float],
        criterion: str | Mapping[str, NDArray[np.floating]],
        *,
        round_to: int = 1,
    ) -> Plan:
        """Plan that keeps the given share of each group, the most important channels first.

        Rounding leaves some FLOPs unused: ``round_to`` channels at a time are added back while the target allows.

        Parameters
        ----------
        criterion
            As for `plan_by_widths`.
        round_to
            Widths are multiples of this, except in groups smaller than it.
        """
        from hdapbench.cost.target import fill, widths_at_share

        share = np.array([shares[name] for name in self.groups])
        widths = widths_at_share(self.cost, share, round_to=round_to)
        if int(self.cost.flops(widths)[0]) <= self.target_flops:
            widths = fill(self.cost, widths, self.target_flops, round_to=round_to)
        return self.plan_by_widths(widths, criterion)

    def plan_by_widths(
        self, widths: Mapping[str, int] | NDArray[np.integer], criterion: str | Mapping[str, NDArray[np.floating]]
    ) -> Plan:
        """Plan with exactly these widths, keeping the most important channels of each group.

        Parameters
        ----------
        widths
            Group -> number of kept channels, or an array of shape (n_groups,) in the order of ``groups``.
        criterion
            Name for ``importance``, or the scores themselves: group -> array of shape (n_channels,).
        """
        scores = self.importance(criterion) if isinstance(criterion, str) else criterion
        if not isinstance(widths, Mapping):
            widths = {name: int(width) for name, width in zip(self.groups, widths, strict=True)}
        return Plan(kept={name: top_channels(scores[name], widths[name]) for name in self.groups})

    def plan_by_scores(
        self,
        scores: Mapping[str, NDArray[np.floating]],
        *,
        scope: Literal["global", "local"] = "global",
        round_to: int = 1,
    ) -> Plan:
        """Plan that removes the channels of least score until the target is met, and no more.

        Parameters
        ----------
        scores
            Group -> score of each channel, shape (n_channels,); higher is kept longer.
        scope
            ``global`` compares channels across groups; ``local`` removes the same share of each group.
        round_to
            Widths are multiples of this; what rounding leaves of the target is filled up.

        Raises
        ------
        TargetUnreachableError
            When even the smallest widths exceed the target.
        """
        if scope == "local":
            share = self.solve_ratio(steps=20, round_to=round_to)
            return self.plan_by_importance(dict.fromkeys(self.groups, share), scores, round_to=round_to)
        from hdapbench.cost.ranking import keep_best

        return Plan(kept=keep_best(self.cost, scores, self.target_flops, round_to=round_to))

    def filled(self, plan: Plan, scores: Mapping[str, NDArray[np.floating]], *, round_to: int = 1) -> Plan:
        """Plan with its best removed channels added back, ``round_to`` at a time, while the target allows.

        Parameters
        ----------
        scores
            Group -> score of each channel, shape (n_channels,); higher comes back first.
        round_to
            Widths grow to multiples of this.
        """
        from hdapbench.cost.target import fill

        names = list(self.groups)
        widths = fill(self.cost, plan.widths(names), self.target_flops, round_to=round_to)
        kept = {}
        for name, width in zip(names, widths, strict=True):
            ranked = np.array(scores[name], dtype=float)
            ranked[list(plan.kept[name])] = np.inf  # what the plan keeps stays
            kept[name] = top_channels(ranked, int(width))
        return plan.model_copy(update={"kept": kept})

    def fit(self, plan_at: Callable[[float], Plan], *, steps: int = 12) -> Plan:
        """Plan of a one-knob family that meets the target with the knob as low as possible.

        Parameters
        ----------
        plan_at
            Knob in [0, 1] -> plan; 0 is (nearly) dense and FLOPs fall as the knob rises.
        steps
            Bisection steps.

        Raises
        ------
        TargetUnreachableError
            When the target is exceeded at knob 1.
        """
        from hdapbench.errors import TargetUnreachableError

        low, high = 0.0, 1.0
        best: Plan | None = None
        for _ in range(steps):
            middle = (low + high) / 2
            plan = plan_at(middle)
            if int(self.costs([plan]).flops[0]) <= self.target_flops:
                best, high = plan, middle
            else:
                low = middle
        if best is None:
            best = plan_at(1.0)
            flops = int(self.costs([best]).flops[0])
            if flops > self.target_flops:
                raise TargetUnreachableError(f"{flops:,} FLOPs at the strongest setting, target {self.target_flops:,}")
        return best

    # Data and training -----------------------------------------------------------------------------------------

    def batches(self, n_images: int, batch_size: int = 64) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images and labels from the training split, in an order fixed by the seed.

        Labels are classes, shape (n,); of detection boxes, shape (m, 6): image in the batch, class, centre, extent.

        Gradients over these images cost as much as training on them: charge them with
        ``budget.charge("train_epochs", n_images / n_train_images)``, as ``importance`` does.
        """
        return self._bench.data.train.batches(batch_size, shuffle_seed=self.seed, limit=n_images)

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Scalar training loss of a batch of outputs of `model`, in training or in evaluation mode."""
        return self._bench.loss(outputs, labels)

    def group_without_norm(self) -> str | None:
        """Name of the first group whose channels run through no affine batch norm, or None."""
        from hdapbench.prune.norms import first_without_norm

        return first_without_norm(self._network.model, self.groups.values())

    def shared_norm(self) -> str | None:
        """Name of the first batch norm that holds channels of several groups, as after a concatenation, or None."""
        from hdapbench.prune.norms import first_shared_norm

        return first_shared_norm(self._network.model, self.groups.values())

    def importance(
        self, criterion: str, *, model: nn.Module | None = None, n_images: int = GRADIENT_IMAGES
    ) -> dict[str, NDArray[np.float64]]:
        """Score of every channel of the dense model: group -> array of shape (n_channels,), higher is more important.

        Parameters
        ----------
        criterion
            ``l1``, ``l2``, ``bn_scale``, ``fpgm``, ``lamp``, ``random``, or, with gradients over training images
            (charged as that share of an epoch), ``taylor``, ``sqrt_taylor`` and ``fisher``.
        model
            A model of your own in the dense shapes, after training it; the dense model by default.
        n_images
            Training images for gradients, or all where there are fewer.
        """
        from hdapbench.prune.importance import importance

        batches = None
        if criterion in GRADIENT_CRITERIA:
            n_images = min(n_images, self.n_train_images)
            self.budget.charge("train_epochs", n_images / self.n_train_images)
            batches = self.batches(n_images)
        scored = self.model() if model is None else model
        return importance(scored, self._network.group_set, criterion, batches=batches, seed=self.seed, loss=self.loss)

    def train(self, model: nn.Module, epochs: float, *, regularize: Callable[[nn.Module], None] | None = None) -> None:
        """Train ``model`` in place on the training split by the spec's fine-tune recipe; charged.

        Parameters
        ----------
        regularize
            Called with the model after every backward pass; it may change the gradients, which the step then follows.
        """
        self.budget.charge("train_epochs", epochs)
        self._bench.train(model, epochs=epochs, seed=self.seed, regularize=regularize)

    def n_steps(self, epochs: float) -> int:
        """Steps of the optimizer that ``train`` makes in so many epochs."""
        return max(1, round(epochs * self.n_train_images / self._bench.recipe.batch_size))

    def accuracy(
        self, plan: Plan, fine_tune_epochs: float = 0.0, *, recalibrate: int = 0, reconstruct: bool = False
    ) -> float:
        """Accuracy (of detection mAP50-95) in [0, 1] of a plan on the search split; charged.

        Parameters
        ----------
        fine_tune_epochs
            Short fine-tune before the evaluation.
        recalibrate
            Training images over which batch norm statistics are estimated anew before the evaluation: without training,
            a pruned model's accuracy tells little as long as they describe the dense one. Charged as a third of
            training on them, for there is no backward pass.
        reconstruct
            Begin with the weights of `reconstructed`.
        """
        n_images = min(recalibrate, self.n_train_images)
        epochs = fine_tune_epochs + n_images / self.n_train_images / 3  # forward, of forward and backward
        if epochs > self.budget.remaining("train_epochs"):  # before anything is charged
            self.budget.charge("train_epochs", epochs)
        self.budget.charge("accuracy_evals", 1)
        if epochs:
            self.budget.charge("train_epochs", epochs)
        self._charge_reconstruction(plan, reconstruct)
        model, _ = self._bench.apply(plan, reconstruct=reconstruct)
        if fine_tune_epochs:
            self._bench.train(model, epochs=fine_tune_epochs, seed=self.seed)
        if n_images:
            self._bench.recalibrate(model, self.batches(n_images, batch_size=128))
        return self._bench.search_accuracy(model)

    @property
    def loss_evaluations(self) -> float:
        """Accuracy evaluations that one `recalibrated_loss` is charged as: at most one."""
        return min(RECALIBRATION_IMAGES, self.n_search_images) / self.n_search_images

    def recalibrated_loss(self, plan: Plan, *, reconstruct: bool = False) -> float:
        """Mean loss of a plan on the search split right after pruning, its batch norms recalibrated; charged.

        Statistics of the batch norms are taken anew over training images (Li et al. 2020, "EagleEye"). It ranks plans
        nearly as their accuracy after fine-tuning does, at a small part of the cost: at most 1,024 images of each
        split, charged as that share of an accuracy evaluation, and as a third of that share of an epoch.

        Parameters
        ----------
        reconstruct
            Begin with the weights of `reconstructed`.
        """
        self._charge_reconstruction(plan, reconstruct)
        n_train = min(RECALIBRATION_IMAGES, len(self._bench.data.train))
        self.budget.charge("accuracy_evals", self.loss_evaluations)
        self.budget.charge("train_epochs", n_train / self.n_train_images / 3)  # forward, of forward and backward
        images = RECALIBRATION_IMAGES
        return self._bench.recalibrated_loss(plan, n_images=images, seed=self.seed, reconstruct=reconstruct)

    def reconstructed(self, plan: Plan) -> Plan:
        """The plan with weights that make up for what it removes, without training.

        Every layer gets the least-squares weights that give, from the channels left, what it gave from all on training
        images (`hdapbench.prune.reconstruct`); batch norms are recalibrated. The first call for a set of weights is
        charged as looking at those images: a third of that share of an epoch.

        Raises
        ------
        ModelError
            When a layer's padding is not of zeros.
        """
        self._charge_reconstruction(plan, True)
        return plan.model_copy(update={"weights": self._bench.reconstructed(plan)})

    @property
    def reconstruction_epochs(self) -> float:
        """Training epochs that the first `reconstructed` for a set of weights is charged as."""
        n_images = min(RECALIBRATION_IMAGES, len(self._bench.data.train))
        return n_images / self.n_train_images / 3  # forward, of forward and backward

    def _charge_reconstruction(self, plan: Plan, reconstruct: bool) -> None:
        if reconstruct and plan.weights not in self._looked_at:
            self.budget.charge("train_epochs", self.reconstruction_epochs)
            self._looked_at.add(plan.weights)

    def fine_tuned(self, plan: Plan, epochs: float) -> Plan:
        """The plan with weights that were fine-tuned by the spec's recipe, to be cut further or handed in; charged."""
        self.budget.charge("train_epochs", epochs)
        return plan.model_copy(update={"weights": self._bench.fine_tuned(plan, epochs=epochs, seed=self.seed)})

    def keep_weights(self, model: nn.Module) -> str:
        """Handle for ``Plan.weights``: the trained weights of a model in the dense shapes, stored for the runner."""
        return self._bench.keep_weights(model)

    def quantized_after_training(self, options: PostTraining) -> str:
        """Handle for ``Plan.file``: the dense model as onnxruntime's quantiser makes it, on training images.

        Raises
        ------
        ModelError
            When the model cannot be exported or quantised.
        """
        return self._bench.quantize_after_training(options)

    # The fleet -------------------------------------------------------------------------------------------------

    @property
    def cluster_weights(self) -> NDArray[np.float64]:
        """Share of the fleet in each cluster, shape (n_clusters,), summing to one.

        The first look at the clusters is charged with the device queries of the fleet's fingerprint.
        """
        return self._clusters().clustering.weights

    @property
    def n_clusters(self) -> int:
        """Number of device clusters."""
        return len(self.cluster_weights)

    @property
    def n_measured(self) -> int:
        """Number of devices measured per plan, and of device queries that it costs."""
        return self._clusters().n_measured

    @property
    def nominal_cluster(self) -> int:
        """The cluster of most devices: its representative stands for the SKU where only one device is asked."""
        return int(np.argmax(self.cluster_weights))

    def latency(self, widths: NDArray[np.integer], *, cluster: int | None = None) -> NDArray[np.float64]:
        """Latency in ms of plans on each cluster's measured devices, shape (n_plans, n_clusters).

        Parameters
        ----------
        widths
            Kept channels per group, shape (n_plans, n_groups); which channels does not matter for latency.
            One device query is charged per plan and measured device.
        cluster
            Ask this cluster's representative alone: shape (n_plans, 1), and one device query per plan.
        """
        clusters = self._clusters()
        plans = np.atleast_2d(np.asarray(widths, dtype=np.int64))
        self.budget.charge("device_queries", len(plans) * (clusters.n_measured if cluster is None else 1))
        self._n_sessions += 1
        session = (self.seed, self._n_sessions)
        return self._bench.measure_clusters(plans, session=session, cluster=cluster).latency_ms

    def latency_share(self, widths: NDArray[np.integer]) -> NDArray[np.float64]:
        """Average clustered latency of plans as a share of the dense model's, shape (n_plans,).

        It is what latency targets limit. The runner measures likewise, in a session of its own; its share is another
        one, by as much as sessions differ.

        Parameters
        ----------
        widths
            Kept channels per group, shape (n_plans, n_groups). One device query is charged per plan and measured
            device, and as many as one plan's for the dense model.
        """
        clusters = self._clusters()
        plans = np.atleast_2d(np.asarray(widths, dtype=np.int64))
        self.budget.charge("device_queries", (len(plans) + 1) * clusters.n_measured)
        self._n_sessions += 1
        return self._bench.latency_shares(plans, session=(self.seed, self._n_sessions))

    def nominal_latency(self, widths: NDArray[np.integer]) -> NDArray[np.float64]:
        """Latency in ms of plans on one nominal board, shape (n_plans,): what a developer without a fleet measures.

        Parameters
        ----------
        widths
            Kept channels per group, shape (n_plans, n_groups). One device query is charged per plan.
        """
        plans = np.atleast_2d(np.asarray(widths, dtype=np.int64))
        self.budget.charge("device_queries", len(plans))
        self._n_sessions += 1
        return self._bench.measure_nominal(plans, session=(self.seed, "nominal", self._n_sessions))

    def average(self, latency_ms: NDArray[np.floating]) -> NDArray[np.float64]:
        """Average clustered latency in ms, shape (n_plans,), of latencies of shape (n_plans, n_clusters)."""
        return np.asarray(np.atleast_2d(latency_ms) @ self.cluster_weights, dtype=np.float64)

    def _clusters(self) -> ClusteredFleet:
        clustered = self._bench.clustered_fleet()
        if not self._clusters_charged:
            self.budget.charge("device_queries", clustered.n_fingerprint_queries)
            self._clusters_charged = True
        return clustered


def top_channels(scores: NDArray[np.floating], width: int) -> tuple[int, ...]:
    """Indices of the ``width`` highest scores, ascending; equal scores keep the lower index."""
    order = np.argsort(-np.asarray(scores, dtype=float), kind="stable")[:width]
    return tuple(sorted(int(index) for index in order))
