"""Weights of a compact model put back into the dense shapes, so that pruning can go on from them."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from hdapbench.groups import GroupSet
from hdapbench.plan import Plan
from hdapbench.prune.surgery import apply_plan


def expand_weights(dense: nn.Module, compact: nn.Module, groups: GroupSet, plan: Plan) -> nn.Module:
    """Deep copy of ``dense`` that holds the weights of ``compact`` where the plan keeps them, and its own elsewhere.

    Applying the plan to it gives ``compact`` back.

    Parameters
    ----------
    compact
        Model of the plan, as `apply_plan` makes it, after whatever training.

    Raises
    ------
    PlanError
        When the plan does not fit the groups.
    """
    expanded = deepcopy(dense)
    # Cutting a model whose weights are their own positions tells where each weight of the compact one belongs.
    positions = deepcopy(dense).double()  # exact for positions up to 2**53, where float32 ends at 2**24
    with torch.no_grad():
        for tensor in positions.state_dict().values():
            tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape))
        places = apply_plan(positions, groups, plan).state_dict()
        trained = compact.state_dict()
        for name, tensor in expanded.state_dict().items():
            if name not in places:  # of a removed block
                continue
            tensor.view(-1)[places[name].reshape(-1).long()] = trained[name].reshape(-1).to(tensor.dtype)
    return expanded
