"""Removed residual blocks: found where removal is exact, cut out, and counted as the network that is really built."""

from __future__ import annotations

from copy import deepcopy
from itertools import compress

import numpy as np
import pytest
import torch
from torch import nn

from hdapbench.cost.kernel_file import kernels_from_dict, kernels_to_dict
from hdapbench.cost.kernels import KernelModel
from hdapbench.cost.model import CostModel
from hdapbench.cost.trace import record_layers
from hdapbench.errors import PlanError
from hdapbench.fleet.simulated.engine import device_latency_ms, kernel_times
from hdapbench.fleet.simulated.profile import load_profile
from hdapbench.groups import GroupSet
from hdapbench.plan import Plan
from hdapbench.prune.expand import expand_weights
from hdapbench.prune.surgery import apply_plan, checked_apply, output_tensors
from hdapbench.prune.trace import find_groups
from tests.zoo import built, needs_yolo, random_plan, traced, with_statistics

NETWORKS = [
    pytest.param("resnet20", 32, 7, id="resnet20"),
    pytest.param("torchvision:resnet50", 64, 12, id="resnet50"),
    pytest.param("torchvision:mobilenet_v2", 64, 10, id="mobilenet_v2"),
    pytest.param("torchvision:efficientnet_b0", 64, 9, id="efficientnet_b0"),
    pytest.param("torchvision:convnext_tiny", 64, 18, id="convnext_tiny"),
    pytest.param("ultralytics:yolov8n.yaml", 64, 6, id="yolov8n", marks=needs_yolo),
]


def without(plan: Plan, groups: GroupSet, numbers: list[int]) -> Plan:
    """The plan with these of the removable blocks removed."""
    gone = {name for number in numbers for name in groups.blocks[number].groups}
    return Plan(kept={name: () if name in gone else kept for name, kept in plan.kept.items()})


@pytest.mark.parametrize(("name", "side", "n_blocks"), NETWORKS)
def test_costs_and_latency_without_blocks_are_those_of_the_network_really_built(name, side, n_blocks):
    net = traced(name, (3, side, side))
    profile, one = load_profile("nano"), np.ones(1)
    assert len(net.group_set.blocks) == n_blocks
    for numbers in ([0], [n_blocks - 1, 1], list(range(n_blocks))):
        plan = without(random_plan(net.group_set, len(numbers), least=0.1), net.group_set, numbers)

        widths = np.array([plan.widths(net.cost.groups)])
        real = record_layers(apply_plan(net.model, net.group_set, plan), GroupSet(()), net.input_shape)
        real_cost, real_kernels = CostModel.from_records(real, {}), KernelModel.from_records(real, {})

        found, built_costs = net.cost.evaluate(widths), real_cost.dense
        for part in ("flops", "params", "parameter_bytes", "activation_bytes", "product_flops"):
            assert getattr(found, part)[0] == getattr(built_costs, part), part
        assert net.cost.flops(widths)[0] == built_costs.flops
        are_run = net.kernels.are_run(widths)[0]
        assert list(compress((k.kind for k in net.kernels.kernels), are_run)) == [k.kind for k in real_kernels.kernels]
        latencies = [
            device_latency_ms(kernel_times(kernels, of, profile, "fp16"), 0.01, one, one, one)[0, 0]
            for kernels, of in ((net.kernels, widths), (real_kernels, np.zeros((1, 0))))
        ]
        assert latencies[0] == pytest.approx(latencies[1], rel=1e-12)


@pytest.mark.parametrize(("name", "norms"), [("resnet20", "bn2"), ("torchvision:resnet50", "bn3")])
def test_outputs_without_blocks_are_those_with_their_last_norms_at_zero(name, norms):
    side = 32
    net = traced(name, (3, side, side))
    model = with_statistics(deepcopy(net.model))
    dense = Plan(kept={name: tuple(range(size)) for name, size in net.group_set.sizes.items()})
    plan = without(dense, net.group_set, [0, 3, 4])
    probe = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))

    compact, _ = checked_apply(model, net.group_set, plan, probe)
    silent = deepcopy(model)
    for number in (0, 3, 4):
        norm = silent.get_submodule(f"{net.group_set.blocks[number].name}.{norms}")
        nn.init.zeros_(norm.weight)
        nn.init.zeros_(norm.bias)

    difference = output_tensors(compact, probe)[0] - output_tensors(silent, probe)[0]
    assert float(difference.abs().max()) < 1e-5 * float(output_tensors(silent, probe)[0].abs().max())


def test_blocks_with_a_projection_stay_and_so_do_networks_without_shortcuts():
    blocks = traced("resnet20").group_set.blocks

    assert "layer2.0" not in {block.name for block in blocks}
    assert {block.after for block in blocks} == {"relu"}
    assert traced("mobilenetv1").group_set.blocks == ()


def test_a_removed_block_with_other_widths_can_be_trained_and_put_back():
    net = traced("resnet20")
    plan = without(random_plan(net.group_set, 3), net.group_set, [1, 5])
    compact = with_statistics(apply_plan(net.model, net.group_set, plan))

    again = apply_plan(expand_weights(net.model, compact, net.group_set, plan), net.group_set, plan)

    assert all(
        torch.equal(a, b) for a, b in zip(again.state_dict().values(), compact.state_dict().values(), strict=True)
    )


def test_plans_remove_whole_blocks_or_none_and_keep_all_of_them_under_bits():
    groups = traced("torchvision:resnet50", (3, 64, 64)).group_set
    dense = Plan(kept={name: tuple(range(size)) for name, size in groups.sizes.items()})
    removed, first = without(dense, groups, [0]), groups.blocks[0].groups[0]

    removed.check(groups.sizes, groups.removable)
    with pytest.raises(PlanError, match="keeps no channel"):
        removed.check(groups.sizes)
    with pytest.raises(PlanError, match=f"'{first}' keeps no channel"):
        Plan(kept={**dense.kept, first: ()}).check(groups.sizes, groups.removable)
    with pytest.raises(PlanError, match="all blocks must stay"):
        removed.model_copy(update={"weight_bits": {"conv1": (8,)}}).check(groups.sizes, groups.removable)


def test_kernels_in_a_file_tell_which_blocks_can_go_and_are_as_before_where_none_did():
    net = traced("resnet20")
    again = kernels_from_dict(kernels_to_dict(net.kernels, with_blocks=True))
    widths = without(random_plan(net.group_set, 0), net.group_set, [2]).widths(net.cost.groups)

    assert np.array_equal(again.are_run(widths), net.kernels.are_run(widths))
    assert not net.kernels.are_run(widths).all()
    assert all("block" not in kernel for kernel in kernels_to_dict(net.kernels, with_blocks=False)["kernels"])


def test_a_module_whose_weights_are_used_elsewhere_too_is_no_removable_block():
    model = built("resnet20")
    model.layer1[1].conv2.weight = model.layer1[2].conv2.weight

    names = {block.name for block in find_groups(model, (3, 32, 32)).blocks}
    assert "layer1.0" in names
    assert not names & {"layer1.1", "layer1.2"}


class Particular(nn.Module):
    """A residual block that runs on what its network gives it alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert float(x.min()) >= 0
        return x + self.outer(torch.relu(self.inner(x)))


def test_a_module_that_does_not_run_on_any_numbers_is_no_removable_block_and_its_network_can_be_pruned():
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), Particular(), head).eval()

    groups = find_groups(model, (3, 8, 8))

    assert groups.blocks == ()
    assert "2.inner" in groups.sizes
