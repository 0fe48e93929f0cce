"""Costs of networks whose channels meet in other ways than a convolution's, against what is really left of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hdapbench.bench.network import trace
from hdapbench.prune.surgery import apply_plan
from tests.axes import networks
from tests.axes.networks import SHAPE
from tests.zoo import random_plan

COUNTED = (
    *(networks.Transformer, networks.Windows, networks.Norms, networks.Shuffle, networks.UNet, networks.Gates),
    *(networks.Sequence, networks.Mixer),
)


@pytest.mark.parametrize("network", COUNTED, ids=lambda network: network.__name__)
def test_flops_and_parameters_of_random_plans_are_those_of_the_pruned_network(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    found = trace(network().eval(), SHAPE)
    for seed in range(5):
        plan = random_plan(found.group_set, seed, least=0.4)  # einsum makes no product where a width is 1
        compact = apply_plan(found.model, found.group_set, plan)
        with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            compact(torch.zeros(1, *SHAPE))

        costs = found.cost.evaluate(np.array(plan.widths(found.group_set.names)))

        assert int(costs.flops[0]) == counter.get_total_flops() // 2
        assert int(costs.params[0]) == sum(parameter.numel() for parameter in compact.parameters())
