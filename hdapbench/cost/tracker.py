"""Tracker: where the tensors of a forward pass come from, and how many channels they have."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from hdapbench.axes.labels import AxisLabels
from hdapbench.cost.records import ChannelCount


class Tracker:
    """Of tensors that come from the image: the record that made them. Of all others: the parameter that they view."""

    def __init__(self, model: nn.Module, labels: AxisLabels) -> None:
        self._labels = labels
        self._origin: dict[int, tuple[int, int]] = {}
        self._parameters = {id(parameter): name for name, parameter in model.named_parameters()}
        self._alive: list[Tensor] = []  # keeps ids from being reused

    def remember(self, tensor: Tensor, record: int, axis: int) -> None:
        """Note that a tensor comes from the image, by way of a record; -1 is the image itself."""
        self._origin[id(tensor)] = (record, axis)
        self._alive.append(tensor)

    def knows(self, tensor: Tensor) -> bool:
        """Whether a tensor comes from the image."""
        return id(tensor) in self._origin

    def record(self, tensor: Tensor) -> int:
        """Record that a tensor comes from, -1 for none."""
        return self._origin.get(id(tensor), (-1, 1))[0]

    def axis(self, tensor: Tensor) -> int:
        """Dimension in which a tensor's channels lie."""
        return min(self._origin.get(id(tensor), (-1, 1))[1], max(tensor.dim() - 1, 0))

    def channels(self, tensor: Tensor, axis: int | None = None) -> ChannelCount:
        """Channels of a tensor, in the dimension where they lie or in another."""
        return self.counts(tensor)[self.axis(tensor) if axis is None else axis] if tensor.dim() else ChannelCount(1)

    def counts(self, tensor: Tensor) -> tuple[ChannelCount, ...]:
        """Every dimension of a tensor as a function of the widths."""
        return tuple(ChannelCount(constant, multiplicity) for constant, multiplicity in self._labels.counts(tensor))

    def parameter(self, tensor: Tensor) -> str | None:
        """Name of the parameter that a tensor views or is computed from; None of what is no weight."""
        return self._parameters.get(id(tensor))

    def derive(self, inputs: Iterable[Tensor], outputs: Iterable[Tensor]) -> None:
        """Note that an operation made tensors from others, none of which come from the image."""
        name = next(filter(None, map(self.parameter, inputs)), None)
        if name is not None:
            for tensor in outputs:
                self._parameters.setdefault(id(tensor), name)
                self._alive.append(tensor)

    def forget(self) -> None:
        """Let go of the tensors."""
        self._origin.clear()
        self._alive.clear()
