"""Sparse training by torch-pruning's regularising pruners, on the framework's training loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from torch import nn
from torch_pruning.pruner import algorithms, importance

if TYPE_CHECKING:
    from hdapbench.method import Problem

Pruner = Literal["group-norm", "growing-reg", "bn-scale", "group-bn-scale"]


def train_sparse(
    problem: Problem, pruner: Pruner, *, epochs: float, reg: float, delta_reg: float, growth_steps: int
) -> nn.Module:
    """Dense model after training with a pruner's penalty on its groups; charged.

    Parameters
    ----------
    reg
        Weight of the penalty.
    delta_reg, growth_steps
        What growing-reg adds to the weight of the least important channels, and after how many steps.
    """
    model = problem.model()
    regularizer = _regularizer(problem, model, pruner, reg=reg, delta_reg=delta_reg)
    regularize = _growing(regularizer, growth_steps) if pruner == "growing-reg" else regularizer.regularize
    problem.train(model, epochs, regularize=regularize)
    return model.eval()


def _regularizer(problem: Problem, model: nn.Module, pruner: Pruner, *, reg: float, delta_reg: float) -> Any:
    """Pruner object of torch-pruning that knows our groups and no others."""
    members = [member for group in problem.groups.values() for member in group.members]
    ours = {member.layer for member in members if member.side != "in"}
    others = [
        module
        for name, module in model.named_modules()
        if name not in ours and isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.BatchNorm1d)
    ]
    shared: dict[str, Any] = {
        "example_inputs": problem.training.example_input(),
        "ignored_layers": others,
        # The defaults are dictionaries that all pruners of a process share.
        "in_channel_groups": {},
        "out_channel_groups": {},
        "num_heads": {},
        "channel_groups": {},
        "reg": reg,
    }
    if pruner == "group-norm":
        return algorithms.GroupNormPruner(model, importance=importance.GroupMagnitudeImportance(), **shared)
    if pruner == "growing-reg":
        scorer = importance.GroupMagnitudeImportance()
        return algorithms.GrowingRegPruner(model, importance=scorer, delta_reg=delta_reg, **shared)
    lasso = pruner == "group-bn-scale"
    return algorithms.BNScalePruner(model, importance=importance.BNScaleImportance(), group_lasso=lasso, **shared)


def _growing(regularizer: Any, growth_steps: int) -> Callable[[nn.Module], None]:
    """Penalty that grows every so many steps."""
    steps = 0

    def regularize(model: nn.Module) -> None:
        nonlocal steps
        steps += 1
        if steps % growth_steps == 0:
            regularizer.update_reg()
        regularizer.regularize(model)

    return regularize
