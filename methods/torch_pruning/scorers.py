"""torch-pruning's importance objects, each with the data that it reads, and the scores they give to our groups.

Where 1.6.1 falls short of its own description the description is followed: its accumulated Hessian keeps the last
sample only, its activations the last batch only, and its OBD-C stops at biases and depthwise layers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch_pruning.pruner import importance as criteria

from hdapbench.method import Plan

from .groups import torch_pruning_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hdapbench.method import Problem

Scores = dict[str, "NDArray[np.float64]"]
Criterion = Literal["magnitude", "bn-scale", "lamp", "fpgm", "taylor", "hessian", "obd-c", "activation", "random"]
READS_DATA = frozenset({"taylor", "hessian", "obd-c", "activation"})
OBDC_BATCH = 8  # gradients of single images are held for a whole batch


def group_scores(problem: Problem, model: nn.Module, plan: Plan, criterion: Criterion, *, n_images: int) -> Scores:
    """Score of every channel of every group as torch-pruning gives it, shape (n_channels,) each; data is charged.

    Parameters
    ----------
    model
        The network pruned by ``plan``, under the dense model's layer names. Its gradients change.
    n_images
        Training images for criteria that read data.
    """
    groups = torch_pruning_groups(problem, model, plan)
    if criterion in READS_DATA:
        n_images = min(n_images, problem.training.n_train_images)
        problem.budget.charge("train_epochs", n_images / problem.training.n_train_images)
    scorer = _SCORERS[criterion](problem, model, n_images)
    return {name: _without_copies(scorer(group), len(plan.kept[name])) for name, group in groups.items()}


def _without_copies(scores: Tensor, n_channels: int) -> NDArray[np.float64]:
    """Scores of a group's channels, shape (n_channels,).

    Where the first layer of a group that is scored consumes its channels several times (a concatenation with itself),
    1.6.1 appends a zero for each copy and counts it in the mean that it divides by.
    """
    own = np.asarray(scores.detach().double().numpy()[:n_channels])
    return own if len(scores) == n_channels else own / max(own.mean(), np.finfo(np.float64).tiny)


def isomorphic_groups(problem: Problem) -> list[list[str]]:
    """Groups whose dependencies join the same kinds of layers and operations in the same order (Fang et al. 2024)."""
    dense = Plan(kept={name: tuple(range(group.n_channels)) for name, group in problem.groups.items()})
    alike: dict[tuple[tuple[type, type, Any], ...], list[str]] = {}
    for name, group in torch_pruning_groups(problem, problem.model(), dense).items():
        structure = tuple(
            (type(item.source.module), type(item.target.module), item.handler.__name__) for item, _ in group
        )
        alike.setdefault(structure, []).append(name)
    return list(alike.values())


def _random(problem: Problem, _model: nn.Module, _n_images: int) -> Any:
    return lambda group: torch.from_numpy(problem.rng.random(1 + max(group[0].root_idxs)))


def _taylor(problem: Problem, model: nn.Module, n_images: int) -> Any:
    """Scorer of first order, after the gradient of the mean loss."""
    model.zero_grad()
    for images, labels in problem.training.batches(n_images):
        torch.autograd.backward(problem.training.loss(model(images), labels) * (len(images) / n_images))
    return criteria.GroupTaylorImportance()


def _hessian(problem: Problem, model: nn.Module, n_images: int) -> Any:
    """Scorer of second order, after the mean squared gradient of single images."""
    squares = {parameter: torch.zeros_like(parameter) for parameter in model.parameters()}
    for images, labels in problem.training.batches(n_images, batch_size=1):
        model.zero_grad()
        torch.autograd.backward(problem.training.loss(model(images), labels))
        for parameter, square in squares.items():
            if parameter.grad is not None:
                square.add_(parameter.grad.square() / n_images)
    for parameter, square in squares.items():
        parameter.grad = square  # where the scorer looks for it
    return criteria.GroupHessianImportance()


def _activation(problem: Problem, model: nn.Module, n_images: int) -> Any:
    """Scorer by the inputs of consuming layers, as if all images were one batch."""
    scorer = criteria.ActivationImportance()
    layers: list[Any] = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    seen = dict.fromkeys(layers, torch.zeros(()))
    with scorer.compute_importance(model), torch.no_grad():
        for images, _ in problem.training.batches(n_images):
            model(images)
            for layer in layers:  # the hook of a convolution takes the mean over images, that of a linear layer the sum
                weight = len(images) / n_images if isinstance(layer, nn.Conv2d) else 1.0
                seen[layer] = seen[layer] + layer._importance * weight
    for layer, value in seen.items():
        layer._importance = value
    return scorer


def _obdc(problem: Problem, model: nn.Module, n_images: int) -> Any:
    """Scorer by the diagonal Fisher information, over labels drawn from the model's own predictions."""
    scorer = criteria.OBDCImportance(num_classes=-1)  # the classifier is in no group, so it needs no telling apart
    producers = {member.layer for group in problem.groups.values() for member in group.members if member.side == "out"}
    modules = dict(model.named_modules())
    scorer.modules = [modules[name] for name in sorted(producers)]
    handles = [module.register_forward_hook(partial(_record, scorer)) for module in scorer.modules]
    generator = torch.Generator().manual_seed(problem.training.seed)
    for images, labels in problem.training.batches(n_images, batch_size=OBDC_BATCH):
        model.zero_grad()
        outputs = model(images)
        torch.autograd.backward(problem.training.loss(outputs, _drawn(outputs, labels, generator)))
        scorer.step()
    for handle in handles:
        handle.remove()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            # It looks up layers that it will not use; and the column that a bias appends has no weight to go with.
            fisher = scorer.Fisher.get(module, torch.zeros(1, 1))
            scorer.Fisher[module] = fisher[:, : module.weight[0].numel()]
    return scorer


def _record(scorer: Any, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """Keep a layer's input and the gradient of its output where OBD-C looks for them."""
    scorer.A[module] = inputs[0].detach()
    output.register_hook(lambda gradient: scorer.DS.__setitem__(module, gradient))  # type: ignore[no-untyped-call]


def _drawn(outputs: object, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Labels drawn from a classifier's predictions; the given ones for any other kind of output."""
    if isinstance(outputs, Tensor) and outputs.ndim == 2:
        return torch.multinomial(outputs.detach().softmax(1), 1, generator=generator)[:, 0]
    return labels


_SCORERS: dict[str, Callable[[Problem, nn.Module, int], Any]] = {
    "magnitude": lambda *_: criteria.GroupMagnitudeImportance(),
    "bn-scale": lambda *_: criteria.BNScaleImportance(),
    "lamp": lambda *_: criteria.LAMPImportance(),
    "fpgm": lambda *_: criteria.FPGMImportance(),
    "taylor": _taylor,
    "hessian": _hessian,
    "obd-c": _obdc,
    "activation": _activation,
    "random": _random,
}
