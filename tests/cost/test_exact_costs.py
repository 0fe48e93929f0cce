"""Closed-form costs against really pruned models, difference zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from hdapbench.bench.network import Network
from hdapbench.prune.surgery import apply_plan
from tests.cost.live_counts import counted
from tests.zoo import needs_yolo, random_plan, traced

N_PLANS = 20


@dataclass(frozen=True)
class Reference:
    """A network, and what is published about its size."""

    name: str
    side: int
    n_classes: int
    flops: int
    params: int

    @property
    def network(self) -> Network:
        return traced(self.name, (3, self.side, self.side), self.n_classes)


RESNET50 = Reference("torchvision:resnet50", 224, 1000, 4_089_184_256, 25_557_032)
MOBILENET = Reference("mobilenetv1", 224, 1000, 568_740_352, 4_231_976)
RESNET56 = Reference("resnet56", 32, 10, 125_747_840, 855_770)
VGG16 = Reference("vgg16", 32, 10, 313_201_664, 14_724_042)
YOLOV8N = Reference("ultralytics:yolov8n.yaml", 640, 80, 4_371_993_600, 3_157_200)

REFERENCES = [
    pytest.param(RESNET50, id="resnet50"),
    pytest.param(MOBILENET, id="mobilenetv1"),
    pytest.param(RESNET56, id="resnet56"),
    pytest.param(VGG16, id="vgg16"),
    pytest.param(YOLOV8N, id="yolov8n", marks=needs_yolo),
]


@pytest.mark.parametrize("reference", REFERENCES)
def test_dense_costs_are_the_published_ones_and_those_of_torchs_own_counter(reference):
    net = reference.network
    dense = net.cost.dense

    assert (dense.flops, dense.params) == (reference.flops, reference.params)
    assert (dense.flops, dense.params, dense.parameter_bytes, dense.activation_bytes) == counted(
        net.model, net.input_shape
    )


@pytest.mark.parametrize("reference", REFERENCES)
def test_costs_of_random_plans_equal_those_of_the_really_pruned_models(reference):
    net = reference.network
    plans = [random_plan(net.group_set, seed) for seed in range(N_PLANS)]

    costs = net.cost.evaluate(np.array([plan.widths(net.cost.groups) for plan in plans]))
    real = [counted(apply_plan(net.model, net.group_set, plan), net.input_shape) for plan in plans]

    found = np.stack([costs.flops, costs.params, costs.parameter_bytes, costs.activation_bytes], axis=1)
    assert np.abs(found - np.array(real)).max() == 0
    assert len(set(costs.flops.tolist())) == N_PLANS


def test_the_known_number_of_groups_is_found():
    found = {reference: len(reference.network.group_set) for reference in (MOBILENET, RESNET56, VGG16)}

    assert found == {MOBILENET: 14, RESNET56: 30, VGG16: 13}
