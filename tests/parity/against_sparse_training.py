"""Gradients of the penalties that the method torch-pruning trains with, beside those of torch-pruning's own pruners."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning as tp
from hdapbench_methods.torch_pruning.sparse import Pruner, train_sparse
from torch import nn

from tests.parity.against_torch_pruning import outputs_of
from tests.parity.subjects import network, problem

REG, DELTA_REG, STEPS, GROWTH_STEPS = 1e-3, 1e-4, 4, 2
PRUNERS: dict[Pruner, tuple[Callable[..., Any], Callable[[], Any], dict[str, Any]]] = {
    "group-norm": (tp.pruner.GroupNormPruner, tp.importance.GroupMagnitudeImportance, {}),
    "growing-reg": (tp.pruner.GrowingRegPruner, tp.importance.GroupMagnitudeImportance, {"delta_reg": DELTA_REG}),
    "bn-scale": (tp.pruner.BNScalePruner, tp.importance.BNScaleImportance, {}),
    "group-bn-scale": (tp.pruner.BNScalePruner, tp.importance.BNScaleImportance, {"group_lasso": True}),
}


@dataclass(frozen=True)
class PenaltyComparison:
    """How two ways to penalise agree.

    Attributes
    ----------
    n_penalised, n_penalised_directly
        Parameters with a gradient of the penalty that is not zero.
    largest, largest_difference
        Of any entry of any parameter's gradient.
    """

    model: str
    pruner: str
    n_penalised: int
    n_penalised_directly: int
    largest: float
    largest_difference: float


def compare_penalty(name: str, pruner: Pruner, side: int | None = None) -> PenaltyComparison:
    """Gradients that four steps of a penalty alone add up to, through the method and directly."""
    ours = problem(name, side)
    penalise = _Penalise()
    ours.train = penalise  # type: ignore[method-assign]
    train_sparse(ours, pruner, epochs=1.0, reg=REG, delta_reg=DELTA_REG, growth_steps=GROWTH_STEPS)
    direct = _penalised_directly(network(name, side).model, ours.training.example_input(), pruner)
    mine, theirs = penalise.gradients, _gradients(direct)
    return PenaltyComparison(
        model=name,
        pruner=pruner,
        n_penalised=sum(bool(gradient.any()) for gradient in mine.values()),
        n_penalised_directly=sum(bool(gradient.any()) for gradient in theirs.values()),
        largest=max(float(gradient.abs().max()) for gradient in theirs.values()),
        largest_difference=max(float((mine[key] - gradient).abs().max()) for key, gradient in theirs.items()),
    )


class _Penalise:
    """Stands where the training loop does, and takes no step: weights stay, gradients of the penalty add up."""

    def __init__(self) -> None:
        self.gradients: dict[str, torch.Tensor] = {}

    def __call__(
        self, model: nn.Module, _epochs: float, *, regularize: Callable[[nn.Module], None] | None = None
    ) -> None:
        assert regularize is not None
        _zero(model)
        for _ in range(STEPS):
            regularize(model)
        self.gradients = _gradients(model)


def _penalised_directly(dense: nn.Module, example: torch.Tensor, name: Pruner) -> nn.Module:
    """What a user of torch-pruning writes, without a loss: the model with the penalty's gradients."""
    model = deepcopy(dense)
    make, importance, options = PRUNERS[name]
    pruner = make(
        model,
        example,
        importance=importance(),
        reg=REG,
        ignored_layers=outputs_of(model),
        in_channel_groups={},
        out_channel_groups={},
        num_heads={},
        channel_groups={},
        **options,
    )
    _zero(model)
    for step in range(1, STEPS + 1):
        if name == "growing-reg" and step % GROWTH_STEPS == 0:
            pruner.update_reg()
        pruner.regularize(model)
    return model


def _zero(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)


def _gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: parameter.grad.clone() for key, parameter in model.named_parameters() if parameter.grad is not None}
