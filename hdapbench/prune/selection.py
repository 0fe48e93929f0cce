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
    """A layer that reads a group's channels.

    Attributes
    ----------
    inverse
        Inverse of the covariance of the inputs that follow the group, all other inputs given, ridge included, shape
        (n_inputs, n_inputs).
    weight
        Weights of those inputs, shape (n_inputs, n_outputs).
    blocks
        Inputs of each channel, shape (n_channels, n_inputs of a channel).
    scale
        One over the variance of the layer's outputs.
    """

    inverse: Tensor
    weight: Tensor
    blocks: Tensor
    scale: float

    def dropping(self) -> Tensor:
        """Error that dropping each channel alone adds, relative to the outputs' variance, shape (n_channels,)."""
        own = self.inverse[self.blocks[:, :, None], self.blocks[:, None, :]]  # (n_channels, n, n)
        return self.scale * _energy(own, self.weight[self.blocks])

    def drop(self, channels: Tensor) -> None:
        """Take channels out, and let the weights of the others make up for them."""
        gone = self.blocks[channels].flatten()
        is_left = torch.ones(len(self.inverse), dtype=torch.bool)
        is_left[gone] = False
        shared = self.inverse[is_left][:, gone]
        share = torch.linalg.solve(self.inverse[gone][:, gone], shared.T).T
        self.weight = self.weight[is_left] - share @ self.weight[gone]
        self.inverse = self.inverse[is_left][:, is_left] - share @ shared.T
        place = torch.cumsum(is_left, 0) - 1
        stays = torch.ones(len(self.blocks), dtype=torch.bool)
        stays[channels] = False
        self.blocks = place[self.blocks[stays]]

    def without(self, channels: Tensor) -> _Reader:
        """The same layer with channels taken out; this one stays as it is."""
        other = _Reader(self.inverse, self.weight, self.blocks, self.scale)
        other.drop(channels)
        return other

    def bringing_back(self, gone: Tensor) -> tuple[float, Tensor]:
        """Error with channels gone, and what bringing each back alone takes off it, shape (n_gone,)."""
        rows = self.blocks[gone].flatten()
        precision = torch.linalg.inv(self.inverse[rows][:, rows])  # covariance of the removed, given the kept
        slopes = precision @ self.weight[rows]
        blocks = torch.arange(len(rows)).view(len(gone), -1)
        own = precision[blocks[:, :, None], blocks[:, None, :]]
        error = 0.5 * float((self.weight[rows] * slopes).sum())
        return self.scale * error, self.scale * _energy(own, slopes[blocks])


def _energy(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Half of v^T M^-1 v, summed over outputs, of each block, shape (n_blocks,)."""
    energy: Tensor = 0.5 * (vectors * torch.linalg.solve(matrices, vectors)).sum((1, 2))
    return energy


def _backward(readers: list[_Reader], n_channels: int) -> tuple[list[int], Floats]:
    """Order of removal, and error that each adds: the cheapest go, a fiftieth of what is left at a time."""
    left = torch.arange(n_channels)
    order: list[int] = []
    added: list[float] = []
    while len(left):
        costs = torch.stack([reader.dropping() for reader in readers]).sum(0)
        drop = torch.argsort(costs, stable=True)[: max(1, len(left) // 50)]
        order += left[drop].tolist()
        added += costs[drop].tolist()
        stays = torch.ones(len(left), dtype=torch.bool)
        stays[drop] = False
        left = left[stays]
        for reader in readers:
            reader.drop(drop)
    return order, np.array(added)


def _search(readers: list[_Reader], kept: Sequence[int], n_channels: int) -> tuple[int, ...]:
    """Kept channels after exchanges that lower the error after the fit."""
    gone = torch.tensor(sorted(set(range(n_channels)) - set(kept)))
    error, _ = _bringing_back(readers, gone)
    size = max(1, min(len(gone), len(kept)) // 10)
    for _ in range(EXCHANGES):
        left = torch.tensor([channel for channel in range(n_channels) if channel not in set(gone.tolist())])
        costs = torch.stack([reader.without(gone).dropping() for reader in readers]).sum(0)
        dropped = left[torch.argsort(costs, stable=True)[:size]]
        more = torch.cat([gone, dropped]).sort().values
        _, gains = _bringing_back(readers, more)
        back = torch.argsort(-gains, stable=True)[:size]
        is_gone = torch.ones(len(more), dtype=torch.bool)
        is_gone[back] = False
        found, _ = _bringing_back(readers, more[is_gone])
        if found < error * (1 - 1e-9):
            gone, error = more[is_gone], found
        elif size == 1:
            break
        else:
            size //= 2
    return tuple(sorted(set(range(n_channels)) - set(gone.tolist())))


def _bringing_back(readers: list[_Reader], gone: Tensor) -> tuple[float, Tensor]:
    """Error of all layers with channels gone, and what bringing each back takes off it, shape (n_gone,)."""
    found = [reader.bringing_back(gone) for reader in readers]
    return sum(error for error, _ in found), torch.stack([gains for _, gains in found]).sum(0)


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
