"""Closed-form costs against really pruned models, difference zero."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from hdapbench.bench.network import Network, trace
from hdapbench.models import build_model
from hdapbench.plan import Plan
from hdapbench.prune.surgery import apply_plan
from hdapbench.spec import ModelSpec
from tests.cost.live_counts import counted, random_plans

N_PLANS = 20

needs_yolo = pytest.mark.skipif(find_spec("ultralytics") is None, reason="needs the yolo extra")


@dataclass(frozen=True)
class Reference:
    """A network, and what is published about its size."""

    name: str
    side: int
    n_classes: int
    flops: int
    params: int


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


@cache
def network(reference: Reference) -> Network:
    shape = (3, reference.side, reference.side)
    torch.manual_seed(0)
    spec = ModelSpec(name=reference.name, input_shape=shape)
    return trace(build_model(spec, n_classes=reference.n_classes, base_dir=Path()).eval(), shape)


@pytest.mark.parametrize("reference", REFERENCES)
def test_dense_costs_are_the_published_ones_and_those_of_torchs_own_counter(reference):
    net = network(reference)
    dense = net.cost.dense

    assert (dense.flops, dense.params) == (reference.flops, reference.params)
    assert (dense.flops, dense.params, dense.parameter_bytes, dense.activation_bytes) == counted(
        net.model, net.input_shape
    )


@pytest.mark.parametrize("reference", REFERENCES)
def test_costs_of_random_plans_equal_those_of_the_really_pruned_models(reference):
    net = network(reference)
    plans = random_plans(net, N_PLANS)

    costs = net.cost.evaluate(np.array([plan.widths(net.cost.groups) for plan in plans]))
    real = [counted(apply_plan(net.model, net.group_set, plan), net.input_shape) for plan in plans]

    found = np.stack([costs.flops, costs.params, costs.parameter_bytes, costs.activation_bytes], axis=1)
    assert np.abs(found - np.array(real)).max() == 0
    assert len(set(costs.flops.tolist())) == N_PLANS


@pytest.mark.parametrize("reference", REFERENCES)
def test_minimum_flops_are_those_of_one_channel_in_every_group(reference):
    net = network(reference)
    plan = Plan(kept=dict.fromkeys(net.cost.groups, (0,)))

    compact = apply_plan(net.model, net.group_set, plan)

    assert net.cost.minimum_flops == counted(compact, net.input_shape)[0]


def test_the_known_number_of_groups_is_found():
    found = {reference: len(network(reference).group_set) for reference in (MOBILENET, RESNET56, VGG16)}

    assert found == {MOBILENET: 14, RESNET56: 30, VGG16: 13}
