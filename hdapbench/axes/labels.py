"""AxisLabels: the labels of every tensor's dimensions in one forward pass, and what follows for the labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from hdapbench.arrays import Integers
from hdapbench.axes.layers import sides_of
from hdapbench.axes.reshape import Axis
from hdapbench.groups import GroupSet

Attention = Literal["heads", "width"]

Axes = tuple[Axis, ...]
"""Labels of each dimension of a tensor."""


@dataclass
class Notes:
    """What a forward pass says about labels.

    Attributes
    ----------
    ties
        Pairs of arrays of equal shape: labels at the same place are one channel.
    frozen
        Labels that cannot be removed, and why.
    consumed
        Labels that a product of two activations sums over.
    norms
        Module that normalises over labels, the labels, and the dimension of its input that they lie along.
    numbers
        Module, name of an attribute that holds the size of a dimension as it is written in its code, and the labels.
    choices
        For every reshape that splits channels: its labels, as a grid, and the number of ways to cut it.
    """

    ties: list[tuple[Integers, Integers]] = field(default_factory=list)
    frozen: list[tuple[Integers, str]] = field(default_factory=list)
    consumed: list[Integers] = field(default_factory=list)
    norms: list[tuple[str, Integers, int]] = field(default_factory=list)
    numbers: list[tuple[str, str, Integers]] = field(default_factory=list)
    choices: list[tuple[Integers, int]] = field(default_factory=list)


class AxisLabels:
    """Labels of dimensions, passed on from operation to operation.

    Dimensions of parameters begin with labels of their own, those of images with none. Where an operation makes two
    dimensions meet, the labels are tied; where it mixes channels or fixes their number, they are frozen.

    Attributes
    ----------
    notes
        What the pass said.
    n_labels
        Labels that there are.
    attention
        What channels in the last dimension are cut into where a reshape splits them: heads, or parts of every head.
    """

    def __init__(
        self,
        model: nn.Module,
        axes: Mapping[int, Axes],
        counts: Mapping[int, tuple[str, int]],
        choices: Mapping[int, int] | None = None,
        n_labels: int = 0,
        *,
        attention: Attention = "heads",
    ) -> None:
        self.attention = attention
        self.notes = Notes()
        self.n_labels = n_labels
        self._model = model
        self._axes: dict[int, Axes] = dict(axes)  # identity of a tensor -> its labels
        self._counts = counts
        self._choices = choices or {}
        self._alive: list[Tensor] = []  # keeps identities from being used again
        self._running: list[tuple[str, list[Tensor]]] = [("", [])]
        self._names = {module: name for name, module in model.named_modules()}

    @classmethod
    def fresh(
        cls, model: nn.Module, choices: Mapping[int, int] | None = None, *, attention: Attention = "heads"
    ) -> AxisLabels:
        """Every dimension of every parameter and buffer has labels of its own.

        Parameters
        ----------
        choices
            Number of a reshape that splits channels -> which of the ways to cut it is taken, if not the first.
        """
        axes: dict[int, Axes] = {}
        n_labels = 0
        for tensor in _tensors_of(model):
            own: list[Axis] = []
            for number, size in enumerate(tensor.shape):
                is_kernel = number >= 2 and tensor.dim() > 3
                own.append(None if is_kernel or size == 1 else np.arange(n_labels, n_labels + size))
                n_labels += 0 if own[-1] is None else size
            axes[id(tensor)] = tuple(own)
        return cls(model, axes, {}, choices, n_labels, attention=attention)

    @classmethod
    def of_groups(cls, model: nn.Module, group_set: GroupSet) -> AxisLabels:
        """Labels are the channels of groups; `counts` says how many of each lie along a dimension."""
        first, ranges = 0, {}
        for group in group_set:
            ranges[group.name] = first
            first += group.n_channels
        owners = {
            first + channel: (group.name, group.n_channels)
            for group in group_set
            for first in (ranges[group.name],)
            for channel in range(group.n_channels)
        }
        modules = dict(model.named_modules())
        axes: dict[int, list[Axis]] = {}

        def put(tensor: Tensor | None, number: int, indices: Iterable[int], labels: Iterable[int]) -> None:
            if tensor is None:
                return
            own = axes.setdefault(id(tensor), [None] * tensor.dim())
            held = own[number]
            chosen = np.full(tensor.shape[number], -1, dtype=np.int64) if held is None else held
            chosen[list(indices)] = list(labels)
            own[number] = chosen

        for group in group_set:
            start = ranges[group.name]
            for member in group.members:
                labels = [start + channel for channel in member.channels]
                for side in sides_of(modules[member.layer]):
                    if member.side in {side.side, "both"} or side.side == "both":
                        put(side.tensor, side.dimension, *side.placed(member.indices, labels))
            for piece in group.parameters:
                tensor = find_tensor(model, piece.name)
                put(tensor, piece.dimension, piece.indices, [start + channel for channel in piece.channels])
        return cls(model, {key: tuple(own) for key, own in axes.items()}, owners)

    def of(self, tensor: Tensor) -> Axes:
        """Labels of a tensor's dimensions."""
        return self._axes.get(id(tensor)) or (None,) * tensor.dim()

    def counts(self, tensor: Tensor) -> tuple[tuple[int, dict[str, int]], ...]:
        """For each dimension how its size follows the groups' widths: what is constant, and group -> multiplicity."""
        return tuple(self._count(size, axis) for size, axis in zip(tensor.shape, self.of(tensor), strict=True))

    def _count(self, size: int, axis: Axis) -> tuple[int, dict[str, int]]:
        if axis is None:
            return size, {}
        found: dict[str, list[int]] = {}
        for label, number in zip(*np.unique(axis[axis >= 0], return_counts=True), strict=True):
            group, n_channels = self._counts[int(label)]
            tally = found.setdefault(group, [0, n_channels])
            tally[0] += int(number)
        multiplicity = {group: total // n_channels for group, (total, n_channels) in found.items()}
        return size - sum(total for total, _ in found.values()), multiplicity

    @contextmanager
    def following(self) -> Iterator[None]:
        """Know which module runs, as long as the context lasts."""
        handles = []
        for module, name in self._names.items():
            handles.append(module.register_forward_pre_hook(self._entering(name), with_kwargs=True))
            handles.append(module.register_forward_hook(self._leaving, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _entering(self, name: str) -> Callable[..., None]:
        return lambda _module, args, named: self._running.append((name, tensors_in((args, named))))

    def _leaving(self, _module: nn.Module, _inputs: Any, _output: Any) -> None:
        self._running.pop()

    @property
    def running(self) -> tuple[str, nn.Module]:
        """Name of the module whose code runs, and the module."""
        name = self._running[-1][0]
        return name, self._model.get_submodule(name)

    def input_dimension(self, axis: Integers) -> int | None:
        """Dimension of the running module's input along which these labels lie."""
        for tensor in self._running[-1][1]:
            for number, own in enumerate(self.of(tensor)):
                if own is not None and np.isin(own[own >= 0], axis).any():
                    return number
        return None

    def put(self, tensor: Tensor, axes: Axes) -> None:
        """Note the labels of a new tensor."""
        self._axes[id(tensor)] = axes
        self._alive.append(tensor)

    def tie(self, first: Integers, second: Integers, where: str) -> None:
        """Labels at the same place become one channel; what meets nothing cannot be removed."""
        both = (first >= 0) & (second >= 0)
        if both.any():
            self.notes.ties.append((first[both], second[both]))
        for own, other in ((first, second), (second, first)):
            self.freeze(own[(own >= 0) & (other < 0)], f"meets channels that cannot be cut at {where}")

    def meet(self, parts: list[Axis], where: str) -> Axis:
        """Label of a dimension in which tensors of equal size meet."""
        labelled = [axis for axis in parts if axis is not None]
        if not labelled:
            return None
        if len(labelled) < len(parts):
            for axis in labelled:
                self.freeze(axis, f"meets a tensor of fixed size at {where}")
            return None
        for axis in labelled[1:]:
            self.tie(labelled[0], axis, where)
        return labelled[0]

    def freeze(self, axis: Axis, reason: str) -> None:
        """These labels cannot be removed."""
        if axis is not None and (axis >= 0).any():
            self.notes.frozen.append((axis[axis >= 0], reason))

    def choice(self, grid: Integers, n_ways: int) -> int:
        """Which way to cut this reshape."""
        self.notes.choices.append((grid.reshape(-1), n_ways))
        return self._choices.get(len(self.notes.choices) - 1, 0) % n_ways

    def number(self, size: int, axis: Integers) -> None:
        """Note attributes of the running module that may hold the size of this dimension of its reshape."""
        name, module = self.running
        if sides_of(module):
            return
        for attribute, value in vars(module).items():
            if type(value) is int and value == size and size > 1:
                self.notes.numbers.append((name, attribute, axis))


def find_tensor(model: nn.Module, name: str) -> Tensor:
    """Parameter or buffer of a dotted name."""
    owner, _, own = name.rpartition(".")
    tensor = getattr(model.get_submodule(owner), own)
    assert isinstance(tensor, Tensor)  # noqa: S101 - names come from named_parameters and named_buffers
    return tensor


def _tensors_of(model: nn.Module) -> list[Tensor]:
    tensors: list[Tensor] = [*model.parameters()]
    return tensors + [buffer for buffer in model.buffers() if buffer.is_floating_point()]


def tensors_in(value: Any) -> list[Tensor]:
    """Tensors of nested lists and mappings, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in tensors_in(item)]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in tensors_in(item)]
    return []
