"""Channels chosen by what the layers that read them lose: OSSCAR and ThiNet, from second moments of layers' inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from hdapbench.arrays import Floats
from hdapbench.errors import ModelError
from hdapbench.groups import ChannelGroup, GroupSet
from hdapbench.prune.reconstruct import RIDGE, InputStatistics, can_be_fitted

Selection = Literal["osscar", "thinet"]

EXCHANGES = 20
"""Exchanges of channels that a local search tries at most."""


def is_selection(criterion: str) -> TypeGuard[Selection]:
    """Whether a criterion chooses channels by reconstruction."""
    return criterion in {"osscar", "thinet"}


def selection_importance(
    model: nn.Module, groups: GroupSet, statistics: InputStatistics, criterion: Selection
) -> dict[str, Floats]:
    """Scores in the reverse order of a greedy removal: group -> array of shape (n_channels,).

    A channel scores what its removal adds to the error of the outputs of the layers that read it, relative to those
    outputs' own variance (thinet: mean square), and no less than those removed before it. Of ``osscar`` (Meng et al.
    2024, backward selection) the error is that after the least-squares fit of the weights left, as
    `hdapbench.prune.reconstruct.reconstructed` makes it; of ``thinet`` (Luo et al. 2017) that without a fit.

    Parameters
    ----------
    statistics
        Of this model's inputs, from `hdapbench.prune.reconstruct.input_statistics`.

    Raises
    ------
    ModelError
        When no layer that can be fitted reads a group's channels.
    """
    found = {}
    for group in groups:
        if criterion == "osscar":
            order, added = _backward(_readers(model, group, statistics), group.n_channels)
        else:
            order, added = _greedy(_shared_outputs(model, group, statistics))
        scores = np.zeros(group.n_channels)
        # Equal scores would bring the order of channels back.
        scores[order] = np.maximum.accumulate(np.maximum(added, 1e-12)) * (1 + 1e-9 * np.arange(len(order)))
        found[group.name] = scores
    return found


def exchanged(
    model: nn.Module, groups: GroupSet, statistics: InputStatistics, kept: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Kept channels of every group, as many as before, after OSSCAR's local search.

    Several channels go and as many come back, if the error after the fit falls; where it does not, half as many are
    tried, down to one.

    Parameters
    ----------
    kept
        Group -> kept channels to begin with: best those of highest score by ``osscar``.
    """
    found = dict(kept)
    for group in groups:
        if len(kept[group.name]) < group.n_channels:
            found[group.name] = _search(_readers(model, group, statistics), kept[group.name], group.n_channels)
    return found


@dataclass
class _Reader:
    """A layer that reads a group's channels, with some of them removed and its weights fitted to those left.

    With R the removed inputs, S those left and P the inverse of the inputs' covariance (ridge included), ``matrix``
    holds -P_RR^-1 and P_SS - P_SR P_RR^-1 P_RS on its diagonal and P_RR^-1 P_RS beside it, and ``weight`` P_RR^-1 W_R
    and W_S - P_SR P_RR^-1 W_R: what sweeping (Goodnight 1979) makes of P and W, and takes back.

    Attributes
    ----------
    matrix
        Shape (n_inputs, n_inputs), of the inputs that follow the group, all others given.
    weight
        Shape (n_inputs, n_outputs).
    blocks
        Inputs of each channel, shape (n_channels, n_inputs of a channel).
    scale
        One over the variance of the layer's outputs.
    """

    matrix: Tensor
    weight: Tensor
    blocks: Tensor
    scale: float

    def changes(self) -> Tensor:
        """What the error gains if each channel alone is removed, or brought back, shape (n_channels,)."""
        own = self.matrix[self.blocks[:, :, None], self.blocks[:, None, :]]  # (n_channels, n, n)
        weight = self.weight[self.blocks]
        gained: Tensor = 0.5 * self.scale * (weight * torch.linalg.solve(own, weight)).sum((1, 2))
        return gained

    def move(self, channels: Tensor, *, back: bool) -> float:
        """Remove channels, or bring them back; what the error gains."""
        rows = self.blocks[channels].flatten()
        shared, weight = self.matrix[rows], self.weight[rows]
        inverse = torch.linalg.inv(shared[:, rows])
        share, slopes = inverse @ shared, inverse @ weight
        self.matrix -= shared.T @ share
        self.weight -= shared.T @ slopes
        sign = -1.0 if back else 1.0
        self.matrix[rows], self.matrix[:, rows] = sign * share, sign * share.T
        self.matrix[rows[:, None], rows] = -inverse
        self.weight[rows] = sign * slopes
        return 0.5 * self.scale * float((weight * slopes).sum())

    def only(self, channels: Tensor) -> _Reader:
        """The same with some channels, the others removed for good."""
        rows = self.blocks[channels].flatten()
        places = torch.arange(len(rows)).view(len(channels), -1)
        return _Reader(self.matrix[rows][:, rows], self.weight[rows], places, self.scale)


def _backward(readers: list[_Reader], n_channels: int) -> tuple[list[int], Floats]:
    """Order of removal, and error that each adds: the cheapest go, a fiftieth of what is left at a time."""
    names = torch.arange(n_channels)
    is_left = torch.ones(n_channels, dtype=torch.bool)
    order: list[int] = []
    added: list[float] = []
    while len(order) < n_channels:
        if 2 * int(is_left.sum()) <= len(names):  # smaller matrices
            left = is_left.nonzero().flatten()
            readers, names, is_left = [reader.only(left) for reader in readers], names[left], is_left[left]
        costs = _changes(readers)
        costs[~is_left] = torch.inf
        drop = torch.argsort(costs, stable=True)[: max(1, int(is_left.sum()) // 50)]
        order += names[drop].tolist()
        added += costs[drop].tolist()
        is_left[drop] = False
        _move(readers, drop, back=False)
    return order, np.array(added)


def _search(readers: list[_Reader], kept: Sequence[int], n_channels: int) -> tuple[int, ...]:
    """Kept channels after exchanges that lower the error after the fit."""
    is_kept = torch.zeros(n_channels, dtype=torch.bool)
    is_kept[list(kept)] = True
    error = _move(readers, (~is_kept).nonzero().flatten(), back=False)
    size = max(1, min(len(kept), n_channels - len(kept)) // 10)
    for _ in range(EXCHANGES):
        dropped = torch.argsort(_changes(readers).masked_fill(~is_kept, torch.inf), stable=True)[:size]
        change = _move(readers, dropped, back=False)
        is_kept[dropped] = False
        returned = torch.argsort(_changes(readers).masked_fill(is_kept, torch.inf), stable=True)[:size]
        change += _move(readers, returned, back=True)
        is_kept[returned] = True
        if change < -1e-9 * error:
            error += change
            continue
        is_kept[returned] = False
        is_kept[dropped] = True
        if size == 1:
            break
        _move(readers, returned, back=False)
        _move(readers, dropped, back=True)
        size //= 2
    return tuple(is_kept.nonzero().flatten().tolist())


def _changes(readers: list[_Reader]) -> Tensor:
    """What the error of all layers gains if each channel alone is removed, or brought back, shape (n_channels,)."""
    return torch.stack([reader.changes() for reader in readers]).sum(0)


def _move(readers: list[_Reader], channels: Tensor, *, back: bool) -> float:
    """Remove channels, or bring them back; what the error of all layers gains."""
    return sum(reader.move(channels, back=back) for reader in readers)


def _greedy(shared: Floats) -> tuple[list[int], Floats]:
    """Order of removal, and what each adds to the sum of ``shared`` over all pairs of removed channels."""
    left = list(range(len(shared)))
    costs = shared.diagonal().copy()
    order, added = [], []
    while left:
        channel = min(left, key=lambda candidate: (costs[candidate], candidate))
        left.remove(channel)
        order.append(channel)
        added.append(float(costs[channel]))
        costs += 2 * shared[channel]
    return order, np.array(added)


def _readers(model: nn.Module, group: ChannelGroup, statistics: InputStatistics) -> list[_Reader]:
    """Layers that read a group's channels and can be fitted."""
    found = []
    for layer, blocks in _reading(model, group, statistics):
        covariance = statistics.layers[layer].covariance().double()
        covariance.diagonal().add_(RIDGE * float(covariance.diagonal().mean()) + 1e-12)
        weight = _weight(model, layer)
        scale = 1 / max(float((weight * (covariance @ weight)).sum()), 1e-30)
        rows = blocks.flatten()
        inverse = torch.linalg.inv(covariance)[rows][:, rows]
        places = torch.arange(len(rows)).view_as(blocks)
        found.append(_Reader(inverse, weight[rows], places, scale))
    return found


def _shared_outputs(model: nn.Module, group: ChannelGroup, statistics: InputStatistics) -> Floats:
    """Products of what each two channels give to the outputs of layers that read them, shape (n_channels, n_channels).

    Sums over outputs, means over places, relative to the outputs' mean square, added up over layers.
    """
    total = torch.zeros(group.n_channels, group.n_channels, dtype=torch.float64)
    for layer, blocks in _reading(model, group, statistics):
        seen, weight = statistics.layers[layer], _weight(model, layer)
        moments = seen.products.double() / seen.n_rows
        scale = 1 / max(float((weight * (moments @ weight)).sum()), 1e-30)
        rows = blocks.flatten()
        products = moments[rows][:, rows] * (weight[rows] @ weight[rows].T)
        n_inputs = blocks.shape[1]
        total += scale * products.view(len(blocks), n_inputs, len(blocks), n_inputs).sum((1, 3))
    return total.numpy()


def _reading(model: nn.Module, group: ChannelGroup, statistics: InputStatistics) -> list[tuple[str, Tensor]]:
    """Layers that read a group's channels, each with the inputs of every channel, shape (n_channels, n_inputs).

    Raises
    ------
    ModelError
        When none of them can be fitted.
    """
    modules = dict(model.named_modules())
    found = []
    for member in group.members:
        module = modules[member.layer]
        if member.side != "in" or member.layer not in statistics.layers or not can_be_fitted(module):
            continue
        area = module.get_parameter("weight")[0, 0].numel()
        order = np.argsort(member.channels, kind="stable")
        inputs = np.array(member.indices)[order].reshape(group.n_channels, -1)
        blocks = (inputs[:, :, None] * area + np.arange(area)).reshape(group.n_channels, -1)
        found.append((member.layer, torch.as_tensor(blocks)))
    if not found:
        raise ModelError(
            f"no convolution or linear layer that can be fitted reads the channels of '{group.name}'; "
            "take another criterion than osscar or thinet"
        )
    return found


def _weight(model: nn.Module, layer: str) -> Tensor:
    """Weights of a layer, shape (n_inputs, n_outputs)."""
    return model.get_submodule(layer).get_parameter("weight").detach().flatten(1).double().T
