"""Tracker: where the tensors of a forward pass come from, and how many channels they have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from hdapbench.cost.channels import Channels
from hdapbench.cost.records import ChannelCount
from hdapbench.groups import GroupSet


class Tracker:
    """Of tensors that come from the image: the record that made them. Of all others: the parameter that they view."""

    def __init__(self, model: nn.Module, group_set: GroupSet) -> None:
        self._sizes = group_set.sizes
        self._origin: dict[int, tuple[int, Channels]] = {}
        self._parameters = {id(parameter): name for name, parameter in model.named_parameters()}
        self._alive: list[Tensor] = []  # keeps ids from being reused

    def remember(self, tensor: Tensor, record: int, channels: Channels) -> None:
        """Note that a tensor comes from the image, by way of a record; -1 is the image itself."""
        self._origin[id(tensor)] = (record, channels)
        self._alive.append(tensor)

    def knows(self, tensor: Tensor) -> bool:
        """Whether a tensor comes from the image."""
        return id(tensor) in self._origin

    def lookup(self, tensor: Tensor) -> tuple[int, Channels]:
        """Record that a tensor comes from, and its channels."""
        constant = ChannelCount(tensor.shape[1] if tensor.dim() > 1 else 1)
        return self._origin.get(id(tensor), (-1, Channels(constant, min(1, max(tensor.dim() - 1, 0)))))

    def counts(self, tensor: Tensor) -> tuple[ChannelCount, ...]:
        """Every dimension of a tensor as a function of the widths; where that is unknown, the dense number."""
        counts = [ChannelCount(size) for size in tensor.shape]
        _, channels = self.lookup(tensor)
        if self.knows(tensor) and channels.axis < len(counts):
            count = channels.count
            dense = count.constant + sum(n * self._sizes[name] for name, n in count.multiplicity.items())
            if dense == tensor.shape[channels.axis]:
                counts[channels.axis] = count
        return tuple(counts)

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


def tensors(value: Any) -> list[Tensor]:
    """Tensors of a nested value."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in tensors(item)]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in tensors(item)]
    return []
