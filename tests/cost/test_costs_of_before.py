"""Networks that were counted before others were: their costs and kernels stay what they are."""

from __future__ import annotations

import hashlib
import json

import pytest

from hdapbench.cost.kernels import KernelModel
from hdapbench.cost.model import CostModel
from hdapbench.cost.trace import record_layers
from hdapbench.groups import GroupSet
from hdapbench.prune.trace import find_groups
from tests.zoo import built, needs_yolo

ARRAYS = (
    "counts_constant",
    "counts_coefficients",
    "pair_first",
    "pair_second",
    "pair_flops",
    "pair_params",
    "single_flops",
    "single_params",
    "single_activations",
)


@pytest.mark.parametrize(
    ("name", "cost_digest", "kernel_digest"),
    [
        ("resnet20", "68620c03c4eae6a2", "db179bddb9466f5a"),
        ("resnet56", "8399396cd916a614", "12dc7e2db430f17e"),
        ("vgg16", "7abdd1e83e1dbd91", "0cce5c59aa5cf383"),
        ("vgg7", "c92a4477ab194c3c", "4013d05945fa2a36"),
        ("mobilenetv1", "3fd57871f4d12249", "080fea8889665fae"),
        ("resnet6", "46ca6c9fe163307f", "f366e73677551ed0"),
        ("resnet8", "5fcffaa29833abb8", "f9286163af132bff"),
        ("dscnn", "e6a169cf1b4c6cf6", "86a35c6dd886225f"),
        ("resnet18-64px", "21d7559d865c2bdd", "3b6bc752715c06e1"),
        ("torchvision:resnet50", "7a52f6f4be1f4e4d", "9fa64b1fe30444e8"),
        ("torchvision:mobilenet_v2", "bd329165e78108e4", "e48446e483172e0d"),
        ("torchvision:densenet121", "e04affbd76288a32", "8af31f44c471fce2"),
        ("torchvision:efficientnet_b0", "84e88d697eea2737", "28e83c9bf5c2172c"),
        ("torchvision:googlenet", "9fcbf33456d334ec", "6e598ce5c4930d19"),
        ("torchvision:resnext50_32x4d", "c04211108d24e4d4", "b91b24bef5338600"),
        ("torchvision:regnet_y_400mf", "82d06c8ab9b70844", "d4649bf6e0498729"),
        pytest.param("ultralytics:yolov8n.yaml", "d0d36c3b484d074a", "1249a31f9d82aa52", marks=needs_yolo),
    ],
)
def test_costs_and_kernels_of_networks_of_before_are_those_of_before(name, cost_digest, kernel_digest):
    shape = {"dscnn": (1, 49, 10)}.get(name, (3, 64, 64) if ":" in name else (3, 32, 32))
    model = built(name, shape)
    group_set = GroupSet(()) if ":" in name else find_groups(model, shape)

    records = record_layers(model, group_set, shape)
    cost = CostModel.from_records(records, group_set.sizes)

    arrays = json.dumps([getattr(cost, array).tolist() for array in ARRAYS])
    assert hashlib.sha256(arrays.encode()).hexdigest()[:16] == cost_digest
    assert KernelModel.from_records(records, group_set.sizes).digest == kernel_digest
    assert not cost.dense.product_flops
