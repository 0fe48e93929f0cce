"""Compactor: plans applied to the dense model, with or without weights that make up for what is removed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn

from hdapbench.bench.network import Network
from hdapbench.bench.training import Trainer
from hdapbench.bench.weights import WeightStore
from hdapbench.plan import Plan
from hdapbench.prune.expand import expand_weights
from hdapbench.prune.reconstruct import InputStatistics, input_statistics, reconstructed
from hdapbench.prune.surgery import apply_plan, checked_apply, mask_model
from hdapbench.tasks.device import on_device


@dataclass(frozen=True)
class Compactor:
    """Makes physically smaller models.

    Attributes
    ----------
    network
        The traced dense model.
    weights
        Where other weights in its shapes come from and go to.
    trainer
        Gives the images for checks, recalibration and reconstruction, and fine-tunes.
    n_images
        Training images over which batch norms are estimated anew, and inputs of layers looked at.
    """

    network: Network
    weights: WeightStore
    trainer: Trainer
    n_images: int = 1024
    _inputs: dict[str | None, InputStatistics] = field(default_factory=dict)
    """Statistics of layers' inputs: of the dense model (None), and of the last other set of weights."""

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
        groups = self.network.group_set
        plan.check(groups.sizes, groups.removable)
        compact, difference = checked_apply(self._source(plan, reconstruct), groups, plan, self.trainer.probe)
        if reconstruct:
            self.trainer.recalibrate(compact, self.trainer.batches(self.n_images, seed=0))
        return compact, difference

    def candidate(self, plan: Plan, *, reconstruct: bool) -> nn.Module:
        """Smaller model of a plan, not compared with the masked one: `apply` does that to what a search chooses."""
        return apply_plan(self._source(plan, reconstruct), self.network.group_set, plan)

    def reconstructed(self, plan: Plan) -> str:
        """Handle of weights that make up for a plan's removed channels (`hdapbench.prune.reconstruct`).

        Raises
        ------
        ModelError
            When a layer cannot be looked at.
        """
        return self._kept(plan, self.apply(plan, reconstruct=True)[0])

    def fine_tuned(self, plan: Plan, *, epochs: float, seed: int) -> str:
        """Handle of a plan's weights after fine-tuning it by the recipe, back in the dense model's shapes."""
        model, _ = self.apply(plan)
        self.trainer.fine_tune(model, epochs=epochs, seed=seed)
        return self._kept(plan, model)

    def _source(self, plan: Plan, reconstruct: bool) -> nn.Module:
        """Model in the dense shapes that a plan is cut from."""
        dense = self.weights.model(plan.weights)
        if not reconstruct:
            return dense
        return reconstructed(dense, self.network.group_set, plan, self.inputs(plan.weights))

    def inputs(self, weights: str | None) -> InputStatistics:
        """Second moments of what layers read, with the weights of a handle; None: the dense model's."""
        if weights not in self._inputs:
            for other in [handle for handle in self._inputs if handle is not None]:
                del self._inputs[other]  # of an earlier iteration or another trial
            self._inputs[weights] = self.inputs_of(self.weights.model(weights))
        return self._inputs[weights]

    def inputs_of(self, model: nn.Module) -> InputStatistics:
        """Second moments of what layers of a model in the dense shapes read."""
        with on_device(model, self.trainer.device):
            return input_statistics(model, self.network.group_set, self._images())

    def _images(self) -> Iterator[Tensor]:
        for images, _ in self.trainer.batches(self.n_images, seed=0):
            yield images.to(self.trainer.device)

    def _kept(self, plan: Plan, compact: nn.Module) -> str:
        """Handle of a compact model's weights, back in the dense model's shapes."""
        groups = self.network.group_set
        # Removed channels are zero: scores of the model as it then is give them nothing.
        masked = mask_model(self.weights.model(plan.weights), groups, plan)
        return self.weights.keep(expand_weights(masked, compact, groups, plan))
