"""Network: a dense model with everything that one trace tells about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from hdapbench.cost.model import CostModel
    from hdapbench.latency.kernels import KernelModel
    from hdapbench.prune.groups import GroupSet


@dataclass(frozen=True)
class Network:
    """A dense model, its channel groups, its exact costs and its fused kernels.

    Attributes
    ----------
    model
        The dense model. Shared: whoever wants to change it takes a deep copy.
    group_set
        Groups that can be pruned, and the frozen ones with their reasons.
    cost, kernels
        Closed forms over the widths of ``group_set.groups``, in that order.
    input_shape
        Channels, height and width of one input.
    """

    model: nn.Module
    group_set: GroupSet
    cost: CostModel
    kernels: KernelModel
    input_shape: tuple[int, int, int]


def trace(model: nn.Module, input_shape: tuple[int, int, int]) -> Network:
    """Network of ``model``: channel groups found and verified, costs and kernels from one trace.

    Parameters
    ----------
    model
        Dense model; left as it is.
    input_shape
        Channels, height and width of one input.

    Raises
    ------
    ModelError
        When no group can be pruned.
    UnknownLayerError
        When a layer has parameters or arithmetic that no rule covers.
    """
    from hdapbench.cost.model import CostModel
    from hdapbench.cost.trace import record_layers
    from hdapbench.latency.kernels import KernelModel
    from hdapbench.prune.trace import find_groups

    group_set = find_groups(model, input_shape)
    records = record_layers(model, group_set, input_shape)
    return Network(
        model=model,
        group_set=group_set,
        cost=CostModel.from_records(records, group_set.sizes),
        kernels=KernelModel.from_records(records, group_set.sizes),
        input_shape=input_shape,
    )
