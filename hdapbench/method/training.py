"""Training: what a method may ask of training images, each use charged in epochs before it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, cast

from hdapbench.method.budget import Budget
from hdapbench.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hdapbench.bench.workbench import Workbench
    from hdapbench.prune.reconstruct import InputStatistics

T = TypeVar("T")

FORWARD_PASSES = 3
"""Images that can be looked at for the price of training on one: a backward pass costs two forward passes."""


class Training:
    """Images, losses and fine-tuning of a problem.

    Parameters
    ----------
    bench
        Where model, images and recipe are.
    seed
        Of the trial.
    budget
        Where epochs and evaluations are charged.
    """

    def __init__(self, bench: Workbench, *, seed: int, budget: Budget) -> None:
        self._bench, self.seed, self._budget = bench, seed, budget
        self._looked_at: set[str | None] = set()

    @property
    def n_train_images(self) -> int:
        """Training images of one epoch: those of the spec's recipe (``max_train_images``), or the whole split."""
        n_images = len(self._bench.train)
        return min(n_images, self._bench.recipe.max_train_images or n_images)

    @property
    def n_search_images(self) -> int:
        """Images in the search split: how finely accuracies resolve."""
        return len(self._bench.search)

    @property
    def fine_tune_epochs(self) -> float:
        """Epochs of fine-tuning that the runner will give every method's plan."""
        return float(self._bench.recipe.epochs)

    def n_steps(self, epochs: float) -> int:
        """Steps of the optimizer that `train` makes in so many epochs."""
        return max(1, round(epochs * self.n_train_images / self._bench.recipe.batch_size))

    def batches(self, n_images: int, batch_size: int = 64) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images and labels from the training split, in an order fixed by the seed.

        Labels are classes, shape (n,); of detection boxes, shape (m, 6): image in the batch, class, centre, extent.

        Gradients over these images cost as much as training on them: charge them with
        ``budget.charge("train_epochs", n_images / n_train_images)``, as `Problem.importance` does.
        """
        return self._bench.train.batches(batch_size, shuffle_seed=self.seed, limit=n_images)

    def lack_of(self, criterion: str) -> str | None:
        """Why a criterion does not apply to this model, for a method to skip; None where it does."""
        if criterion != "hrank":
            return None
        from hdapbench.prune.hrank import without_maps

        lacking = without_maps(self._bench.network.model, self._bench.network.group_set, self.example_input())
        return f"criterion hrank: the channels of {', '.join(lacking[:3])} are no feature maps" if lacking else None

    def example_input(self) -> Tensor:
        """Two normalised training images, shape (2, channels, height, width)."""
        images, _ = next(iter(self.batches(2, batch_size=2)))
        return images

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Scalar training loss of a batch of outputs of a model, in training or in evaluation mode."""
        return self._bench.trainer.loss(outputs, labels)

    def train(self, model: nn.Module, epochs: float, *, regularize: Callable[[nn.Module], None] | None = None) -> None:
        """Train ``model`` in place by the spec's fine-tune recipe; see `Problem.train`."""
        self._budget.charge("train_epochs", epochs)
        self._bench.trainer.fine_tune(model, epochs=epochs, seed=self.seed, regularize=regularize)

    def shared(self, key: tuple[object, ...], epochs: float, make: Callable[[], T]) -> T:
        """What ``make`` gives, made once for all trials of this seed on this model, and charged to each of them.

        Parameters
        ----------
        key
            Names all that the value depends on besides model, data, recipe and seed. What is limited must not.
        epochs
            Training that ``make`` does, and charges.
        make
            Called by the first trial that asks. Its value must not be changed by anybody.
        """
        known = self._bench.shared
        if (self.seed, key) in known:
            self._budget.charge("train_epochs", epochs)
        else:
            value = make()
            for stale in [name for name in known if name[0] != self.seed]:
                del known[stale]  # seeds come one after another
            known[self.seed, key] = value
        return cast("T", known[self.seed, key])

    def keep_weights(self, model: nn.Module) -> str:
        """Handle for ``Plan.weights``: the trained weights of a model in the dense shapes, stored for the runner.

        Raises
        ------
        PlanError
            When a shape differs from the dense model's.
        """
        return self._bench.weights.keep(model)

    def fine_tuned(self, plan: Plan, epochs: float) -> Plan:
        """The plan with weights that were fine-tuned by the spec's recipe, to be cut further or handed in; charged."""
        self._budget.charge("train_epochs", epochs)
        handle = self._bench.compactor.fine_tuned(plan, epochs=epochs, seed=self.seed)
        return plan.model_copy(update={"weights": handle})

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
        bench, n_images = self._bench, min(recalibrate, self.n_train_images)
        epochs = fine_tune_epochs + self.looking_epochs(n_images)
        self._budget.check("train_epochs", epochs)  # before anything is charged
        self._budget.charge("accuracy_evals", 1)
        if epochs:
            self._budget.charge("train_epochs", epochs)
        self._charge_reconstruction(plan, reconstruct)
        model, _ = bench.compactor.apply(plan, reconstruct=reconstruct)
        if fine_tune_epochs:
            bench.trainer.fine_tune(model, epochs=fine_tune_epochs, seed=self.seed)
        if n_images:
            bench.trainer.recalibrate(model, self.batches(n_images, batch_size=128))
        return bench.trainer.scores(model, bench.search).accuracy

    @property
    def loss_evaluations(self) -> float:
        """Accuracy evaluations that one `recalibrated_loss` is charged as: at most one."""
        return min(self._bench.compactor.n_images, self.n_search_images) / self.n_search_images

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
        self._budget.charge("accuracy_evals", self.loss_evaluations)
        self._budget.charge("train_epochs", self.reconstruction_epochs)
        bench = self._bench
        model = bench.compactor.candidate(plan, reconstruct=reconstruct)
        return bench.trainer.recalibrated_loss(model, n_images=bench.compactor.n_images, seed=self.seed)

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
        return plan.model_copy(update={"weights": self._bench.compactor.reconstructed(plan)})

    def inputs(self, model: nn.Module | None = None) -> InputStatistics:
        """Second moments of what layers read: what reconstruction works on, and choosing channels by it; charged.

        The first call for the dense model is charged as `reconstructed` is, and so is every call for another model.

        Parameters
        ----------
        model
            A model of your own in the dense shapes; the dense model by default.
        """
        if model is None:
            self._charge_inputs(None)
            return self._bench.compactor.inputs(None)
        self._budget.charge("train_epochs", self.reconstruction_epochs)
        return self._bench.compactor.inputs_of(model)

    @property
    def reconstruction_epochs(self) -> float:
        """Training epochs that the first `reconstructed` for a set of weights is charged as."""
        return self.looking_epochs(min(self._bench.compactor.n_images, len(self._bench.train)))

    def looking_epochs(self, n_images: int) -> float:
        """Training epochs that looking at so many training images is charged as: a third of training on them."""
        return n_images / self.n_train_images / FORWARD_PASSES

    def _charge_reconstruction(self, plan: Plan, reconstruct: bool) -> None:
        if reconstruct:
            self._charge_inputs(plan.weights)

    def _charge_inputs(self, weights: str | None) -> None:
        """Charge looking at what layers read, once for a set of weights."""
        if weights not in self._looked_at:
            self._budget.charge("train_epochs", self.reconstruction_epochs)
            self._looked_at.add(weights)
