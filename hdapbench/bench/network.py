"""Network: a dense model with everything that one trace tells about it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from hdapbench.arrays import Integers
from hdapbench.axes.labels import Attention
from hdapbench.cost.kernels import KernelModel
from hdapbench.cost.model import CostModel
from hdapbench.cost.trace import check_operations, record_layers
from hdapbench.fleet.base import Variants, Workloads
from hdapbench.groups import GroupSet
from hdapbench.plan import Plan, name_of_widths
from hdapbench.prune.surgery import apply_plan
from hdapbench.prune.trace import find_groups


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

    @cached_property
    def variants(self) -> Variants:
        """How fleets that run models build the pruned ones; which channels are kept does not bear on latency."""
        about = f"{self.model!r} {self.input_shape}"
        return Variants(self._build, self.input_shape, hashlib.sha256(about.encode()).hexdigest()[:16])

    def workloads(self, widths: Integers, ids: tuple[str, ...] | None = None) -> Workloads:
        """Models of some widths to time, shape (n_workloads, n_groups); by default named after their widths."""
        named = ids or tuple(map(name_of_widths, widths))
        return Workloads(self.kernels, widths, named, self.variants)

    def _build(self, widths: Integers) -> nn.Module:

        kept = {name: tuple(range(int(width))) for name, width in zip(self.cost.groups, widths, strict=True)}
        return apply_plan(self.model, self.group_set, Plan(kept=kept)).eval()


def trace(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    *,
    count_products: bool = True,
    attention: Attention = "heads",
) -> Network:
    """Network of ``model``: channel groups found and verified, costs and kernels from one trace.

    Parameters
    ----------
    model
        Dense model; left as it is.
    input_shape
        Channels, height and width of one input.
    count_products
        Whether FLOPs hold products between activations.
    attention
        What attention loses: whole heads, or as many channels of every head.

    Raises
    ------
    ModelError
        When no group can be pruned.
    UnknownLayerError
        When a layer has parameters or arithmetic that no rule covers.
    """
    check_operations(model, input_shape)
    group_set = find_groups(model, input_shape, attention=attention)
    records = record_layers(model, group_set, input_shape)
    cost = CostModel.from_records(records, group_set.sizes)
    return Network(
        model=model,
        group_set=group_set,
        cost=cost if count_products else cost.without_products(),
        kernels=KernelModel.from_records(records, group_set.sizes),
        input_shape=input_shape,
    )
