"""The method `slimming`: what keeps whole layers from going."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from hdapbench_methods.slimming import Slimming
from torch import nn

from hdapbench.testing import tiny_workbench
from tests.methods.worlds import bench_on, problem_on


@pytest.mark.parametrize(("least_share", "survive"), [(0.0, False), (0.25, True)])
def test_a_group_of_small_scales_goes_but_for_its_least_share(least_share: float, survive: bool) -> None:
    model = deepcopy(tiny_workbench("plain").network.model)
    last = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)][-1]
    with torch.no_grad():
        last.weight.mul_(1e-3)
    problem = problem_on(bench_on(model), 0.4)

    plan = Slimming(epochs=0.0, least_share=least_share).compress(problem)

    shares = [len(plan.kept[name]) / group.n_channels for name, group in problem.groups.items()]
    assert (min(shares) >= least_share > 0) is survive
    assert all(len(plan.kept[name]) >= math.ceil(least_share * g.n_channels) for name, g in problem.groups.items())


def test_channels_of_shortcuts_go_last() -> None:
    model = deepcopy(tiny_workbench("residual").network.model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):  # the two tied ones are smaller than the third
                tied = len(module.weight) == 12
                module.weight.copy_(
                    (0.75 if tied else 1.0) * (0.9 + 0.2 * torch.rand(len(module.weight), generator=generator))
                )
    problem = problem_on(bench_on(model), 0.8)

    plan = Slimming(epochs=0.0).compress(problem)

    tied, single = plan.widths(list(problem.groups))
    assert tied == 12
    assert single < 10
