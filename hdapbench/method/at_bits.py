"""Plans at bit-widths that a method has decided on: their loss as they stand, and their weights after training."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import torch

from hdapbench.groups import GroupSet
from hdapbench.method.training import FORWARD_PASSES
from hdapbench.plan import Plan
from hdapbench.prune.expand import expand_weights
from hdapbench.prune.surgery import apply_plan
from hdapbench.quant.graph.folded import FoldedModel
from hdapbench.quant.graph.unfold import unfold
from hdapbench.quant.training.assign import Bits, kept_channels, layer_bits
from hdapbench.quant.training.choices import RangeRule
from hdapbench.quant.training.fixed import FixedNetwork
from hdapbench.quant.training.searchable import SearchNetwork, SearchOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from hdapbench.method.problem import Problem

BATCH_SIZE = 256


class LossAtBits:
    """Mean training loss of the quantised dense model at any bit-widths, without training; each call is charged.

    Parameters
    ----------
    problem
        Whose model and training images these are.
    weight_bits
        Bit-widths that will be asked for, ascending; 0 for removed channels.
    n_images
        Training images, or all where there are fewer.
    most_epochs
        What a call may be charged as at most: fewer images are looked at for that, but one.
    """

    def __init__(
        self, problem: Problem, weight_bits: Sequence[int], n_images: int, *, most_epochs: float = inf
    ) -> None:
        self._problem = problem
        folded, n_train = problem.quantization.folded(), problem.training.n_train_images
        options = SearchOptions(weight_bits=tuple(weight_bits))
        self._network = SearchNetwork(folded, problem.quantization.calibrate(folded), options).eval()
        n_images = max(1, int(min(n_images, n_train, most_epochs * n_train * FORWARD_PASSES)))
        self._batches = list(problem.training.batches(n_images, batch_size=BATCH_SIZE))
        self.epochs = n_images / n_train / FORWARD_PASSES
        """Training epochs that a call is charged as."""

    @torch.no_grad()
    def __call__(self, bits: Bits) -> float:
        """Loss where each selector's channels have these bits."""
        self._problem.budget.charge("train_epochs", self.epochs)
        self._network.selection.settle(bits)
        losses = [
            (float(self._problem.training.loss(self._network(images), labels)), len(images))
            for images, labels in self._batches
        ]
        return sum(loss * n for loss, n in losses) / sum(n for _, n in losses)


def trained_at(problem: Problem, bits: Bits, epochs: float, *, rule: RangeRule = "mse") -> Plan:
    """Plan of these bit-widths with weights that were trained at them by the spec's recipe; charged.

    Parameters
    ----------
    bits
        Selector -> bits of each channel, 0 for those that go.
    epochs
        Of training; with 0 the weights are the dense model's.
    rule
        How weight steps are found.
    """
    folded, groups = problem.quantization.folded(), GroupSet(tuple(problem.groups.values()))
    plan = Plan(kept=kept_channels(folded, bits), weight_bits=layer_bits(folded, bits))
    if not epochs:
        return plan
    dense = problem.model()
    compact = apply_plan(dense, groups, Plan(kept=plan.kept))
    smaller = FoldedModel.of(compact, folded.input_shape)
    network = trained_network(problem, smaller, plan, epochs, rule=rule)
    expanded = expand_weights(dense, unfold(compact, network.float_model()), groups, plan)
    return plan.model_copy(update={"weights": problem.training.keep_weights(expanded)})


def trained_network(
    problem: Problem,
    folded: FoldedModel,
    plan: Plan,
    epochs: float,
    *,
    rule: RangeRule = "mse",
    start: nn.Module | None = None,
) -> FixedNetwork:
    """Fake-quantised network of a plan's bit-widths, trained by the spec's recipe; charged.

    Parameters
    ----------
    folded
        The plan's compact model.
    start
        Folded model whose weights it begins with; that of ``folded`` by default.
    """
    clips = problem.quantization.calibrate(folded)[:, 0]
    network = FixedNetwork(
        folded.model if start is None else start,
        folded.graph,
        clips,
        weight_bits=plan.weight_bits,
        activation_bits=[8] * len(folded.graph.quantizers),
        rule=rule,
    )
    problem.train(network, epochs)
    return network
