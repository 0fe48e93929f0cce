"""What can be pruned of one network, and where its FLOPs are: before there is a spec, data or training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from hdapbench.bench.network import trace
from hdapbench.cost.model import CostModel
from hdapbench.cost.records import LayerRecord
from hdapbench.cost.trace import record_layers
from hdapbench.groups import GroupSet


@dataclass(frozen=True)
class GroupCosts:
    """A channel group: its channels, the layers whose filters they are, and the share of FLOPs that goes with them."""

    name: str
    n_channels: int
    layers: Sequence[str]
    flops_share: float


@dataclass(frozen=True)
class FrozenLayer:
    """Channels that cannot be pruned, and why."""

    name: str
    n_channels: int
    reason: str


@dataclass(frozen=True)
class LayerCosts:
    """Multiply-accumulates and parameters of one layer or operation of the dense network."""

    name: str
    kind: str
    flops: int
    params: int


@dataclass(frozen=True)
class ModelReport:
    """Groups, frozen layers and costs by layer of a network.

    ``minimum_flops`` are those with one channel in every group; ``flops_share`` of a group is the share of the FLOPs
    that goes with all but one of its channels; ``seconds`` are of processor time.
    """

    input_shape: tuple[int, int, int]
    n_classes: int
    flops: int
    params: int
    minimum_flops: int
    groups: tuple[GroupCosts, ...]
    frozen: tuple[FrozenLayer, ...]
    layers: tuple[LayerCosts, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def report_model(model: nn.Module, input_shape: tuple[int, int, int], *, n_classes: int) -> ModelReport:
    """Report of a network in evaluation mode, which stays as it is.

    Raises
    ------
    ModelError
        When it cannot be traced, has an operation without a cost rule, or nothing of it can be pruned.
    """
    began = time.process_time()
    network = trace(model, input_shape)
    cost, groups = network.cost, network.group_set
    layers = _layers(record_layers(model, groups, input_shape), groups)
    return ModelReport(
        input_shape=input_shape,
        n_classes=n_classes,
        flops=cost.dense.flops,
        params=cost.dense.params,
        minimum_flops=cost.minimum_flops,
        groups=_groups(cost, groups),
        frozen=tuple(FrozenLayer(group.name, group.n_channels, group.reason) for group in groups.frozen),
        layers=layers,
        seconds=time.process_time() - began,
    )


def _groups(cost: CostModel, groups: GroupSet) -> tuple[GroupCosts, ...]:
    found = []
    for number, group in enumerate(groups):
        widths = cost.sizes.copy()
        widths[number] = 1
        share = 1 - int(cost.flops(widths)[0]) / max(cost.dense.flops, 1)
        found.append(GroupCosts(group.name, group.n_channels, group.producers, share))
    return tuple(found)


def _layers(records: Sequence[LayerRecord], groups: GroupSet) -> tuple[LayerCosts, ...]:
    """Costs of the records that have any, by the same closed form as the whole network's."""
    found = []
    for record in records:
        dense = CostModel.from_records([record], groups.sizes).dense
        if dense.flops or dense.params:
            found.append(LayerCosts(record.name, record.kind, dense.flops, dense.params))
    return tuple(found)
