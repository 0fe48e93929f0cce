"""How much each channel of a group matters, by the criteria of the literature."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hdapbench.arrays import Floats
from hdapbench.axes.layers import TRANSPOSED
from hdapbench.errors import ModelError
from hdapbench.groups import ChannelGroup, GroupMember, GroupSet
from hdapbench.prune.fisher import fisher_importance
from hdapbench.prune.hrank import rank_importance
from hdapbench.prune.norms import norm_members
from hdapbench.prune.reconstruct import can_be_fitted, input_statistics
from hdapbench.prune.selection import is_selection, selection_importance

CRITERIA = (
    *("l1", "l2", "bn_scale", "fpgm", "lamp", "consumers", "random"),
    *("taylor", "sqrt_taylor", "fisher"),
    *("osscar", "thinet", "hrank"),
)

GRADIENT_CRITERIA = frozenset({"taylor", "sqrt_taylor", "fisher"})
INPUT_CRITERIA = frozenset({"osscar", "thinet", "hrank"})

Batches = Iterable[tuple[Tensor, Tensor]]


def importance(
    model: nn.Module,
    groups: GroupSet,
    criterion: str,
    *,
    batches: Batches | None = None,
    seed: int = 0,
    loss: Callable[[Any, Tensor], Tensor] = functional.cross_entropy,
) -> dict[str, Floats]:
    """Score of every channel: group -> array of shape (n_channels,), higher is more important.

    Scores of the layers that produce a group's channels are added.

    Parameters
    ----------
    model
        Dense model; its weights and mode are left alone, its gradients are used and cleared.
    criterion
        ``l1``, ``l2``: norm of the filter. ``bn_scale``: absolute batch norm scale (Liu et al. 2017, network slimming).
        ``fpgm``: sum of distances to the other filters (He et al. 2019). ``lamp``: squared norm over the sum of those
        not smaller (Lee et al. 2021), per filter. ``taylor``: sum of absolute weight times gradient (Molchanov et al.
        2019, first order, per weight); ``sqrt_taylor`` takes the square root of each layer's before
        layers are added, so that channels that many layers share count as often. ``fisher``: mean square over
        samples of the loss's derivative by a gate of the channel (`hdapbench.prune.fisher`). ``random``: uniform.
        ``consumers``: norm of the weights that read the channel, each layer's relative to its largest. ``osscar``,
        ``thinet``: what the outputs of those layers lose (`hdapbench.prune.selection`). ``hrank``: rank of its feature
        maps (`hdapbench.prune.hrank`).
    batches
        Inputs and labels for the gradient criteria; of osscar, thinet and hrank inputs alone count.
    seed
        Seed of ``random``.
    loss
        Outputs and labels -> scalar, for the gradient criteria.

    Raises
    ------
    ModelError
        When the criterion is unknown, or a group lacks what it needs.
    """
    if criterion not in CRITERIA:
        raise ModelError(f"unknown importance criterion '{criterion}'. Known: {', '.join(CRITERIA)}")
    if criterion == "random":
        rng = np.random.default_rng(seed)
        return {group.name: rng.random(group.n_channels) for group in groups}
    if criterion == "bn_scale":
        return {group.name: _bn_scale(group, model) for group in groups}
    if criterion in GRADIENT_CRITERIA | INPUT_CRITERIA and batches is None:
        raise ModelError(f"the criterion '{criterion}' needs batches of inputs and labels")
    if criterion in INPUT_CRITERIA:
        return _by_inputs(model, groups, criterion, batches or ())
    if criterion == "fisher":
        return fisher_importance(model, groups, batches or (), loss)
    modules = dict(model.named_modules())
    if criterion in GRADIENT_CRITERIA:
        _accumulate_gradients(model, batches or (), loss)
    scores = {group.name: _filter_scores(group, modules, criterion) for group in groups}
    model.zero_grad(set_to_none=True)
    return scores


def _by_inputs(model: nn.Module, groups: GroupSet, criterion: str, batches: Batches) -> dict[str, Floats]:
    """Scores by criteria that look at images, and at no labels."""
    images = (inputs for inputs, _ in batches)
    if is_selection(criterion):
        return selection_importance(model, groups, input_statistics(model, groups, images), criterion)
    return rank_importance(model, groups, images)


def _accumulate_gradients(model: nn.Module, batches: Batches, loss: Callable[[Any, Tensor], Tensor]) -> None:
    """Gradients of the summed loss, batch norm in eval mode so that its statistics stay."""
    training = model.training
    model.eval()
    model.zero_grad(set_to_none=True)
    n_batches = 0
    for inputs, labels in batches:
        torch.autograd.backward(loss(model(inputs), labels))
        n_batches += 1
    model.train(training)
    if not n_batches:
        raise ModelError("gradient criteria need at least one batch of inputs and labels")


def _filter_scores(group: ChannelGroup, modules: dict[str, nn.Module], criterion: str) -> Floats:
    """Scores of a group's channels, shape (n_channels,): those of its producers' filters, added up."""
    if criterion == "consumers":
        return _consumer_scores(group, modules)
    total = np.zeros(group.n_channels)
    for member in group.members:
        if member.side != "out":
            continue
        module = modules[member.layer]
        weight = module.get_parameter("weight")
        rows = filters(module, weight.detach()).double()
        if criterion in {"taylor", "sqrt_taylor"}:
            if weight.grad is None:
                raise ModelError(
                    f"the criterion '{criterion}' needs gradients, but '{member.layer}' gets none: "
                    "turn requires_grad on, and make sure that the loss depends on the layer"
                )
            scores = (rows * filters(module, weight.grad).double()).abs().sum(1)
            scores = scores.sqrt() if criterion == "sqrt_taylor" else scores
        else:
            scores = _weight_scores(rows, criterion)
        total += by_channel(member, scores.numpy(), group.n_channels)
    return total


def _consumer_scores(group: ChannelGroup, modules: dict[str, nn.Module]) -> Floats:
    """Norms of the weights that read a group's channels, shape (n_channels,), added up over the layers that do.

    Each layer's are divided by their largest. Layers whose weights are in groups have none.
    """
    total = np.zeros(group.n_channels)
    for member in group.members:
        module = modules[member.layer]
        if member.side != "in" or not can_be_fitted(module):
            continue
        weight = module.get_parameter("weight").detach().double()
        norms = by_channel(member, weight.square().transpose(0, 1).flatten(1).sum(1).numpy(), group.n_channels) ** 0.5
        total += norms / max(float(norms.max()), 1e-300)
    return total


def _weight_scores(rows: Tensor, criterion: str) -> Tensor:
    """Score of each filter, shape (n_rows,), of rows of shape (n_rows, n_weights)."""
    if criterion == "l1":
        return rows.abs().sum(1)
    if criterion == "l2":
        return rows.square().sum(1).sqrt()
    if criterion == "fpgm":
        return torch.cdist(rows, rows).sum(1)
    # lamp: each squared norm over the sum of those at least as large
    squared, order = rows.square().sum(1).sort(descending=True)
    scores = torch.empty_like(squared)
    scores[order] = squared / squared.cumsum(0).clamp_min(1e-30)
    return scores


def _bn_scale(group: ChannelGroup, model: nn.Module) -> Floats:
    """Absolute batch norm scales of a group's channels, shape (n_channels,), added up over its norms."""
    norms = norm_members(model, group)
    if not norms:
        raise ModelError(f"the criterion 'bn_scale' needs batch norm after '{group.name}', which has none")
    scores = [(member, norm.weight.detach().abs().double().numpy()) for member, norm in norms]
    return sum((by_channel(*pair, group.n_channels) for pair in scores), np.zeros(group.n_channels))


def by_channel(member: GroupMember, scores: Floats, n_channels: int) -> Floats:
    """Scores per channel of the group, shape (n_channels,), each the sum over the layer's channels that follow it.

    Parameters
    ----------
    scores
        One per channel of the layer, shape (n_layer_channels,).
    n_channels
        Channels of the group.
    """
    weights = scores[list(member.indices)]
    return np.bincount(member.channels, weights=weights, minlength=n_channels).astype(np.float64)


def filters(module: nn.Module, values: Tensor) -> Tensor:
    """Weights of a layer, or as many numbers for them, one row per produced channel: shape (n_out, n_weights)."""
    if not isinstance(module, TRANSPOSED):
        return values.flatten(1)
    parts = values.reshape(module.groups, -1, *values.shape[1:]).transpose(1, 2)  # (n_groups, n_out, n_in, ...)
    return parts.flatten(0, 1).flatten(1)
