"""Every shipped method on networks with attention, norms over channels and bare parameters."""

from __future__ import annotations

import pytest
from torch import nn

from hdapbench.method.plans import flops_of
from hdapbench.method.registry import MethodRegistry
from tests.axes.networks import Gates, Transformer, Windows
from tests.methods.test_shipped_methods import VARIANTS, name_of
from tests.methods.worlds import bench_on, problem_on

REASONS = ("batch norm", "own groups", "of NNI", "no feature maps", "no residual block")


@pytest.mark.filterwarnings("ignore:.*")
@pytest.mark.parametrize("network", [Transformer, Windows, Gates])
@pytest.mark.parametrize("variant", VARIANTS, ids=name_of)
def test_a_plan_within_the_target_or_a_reason_to_skip(
    variant: tuple[str, dict[str, object]], network: type[nn.Module]
) -> None:
    name, parameters = variant
    method = MethodRegistry().resolve(name, parameters)
    problem = problem_on(bench_on(network(n_patches=36) if network is Transformer else network()), 0.6)

    reason = method.skip(problem)
    if reason is None:
        plan = method.compress(problem)
        assert flops_of(problem, plan) <= problem.target_flops
        assert plan.kept.keys() == problem.groups.keys()
    else:
        assert any(words in reason for words in REASONS), reason
