"""Small networks of docs/models.md, pruned as its study prunes all."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from studies import models as study

NETWORKS = [
    "torchvision:mobilenet_v3_small",
    "torchvision:shufflenet_v2_x0_5",
    "torchvision:regnet_y_400mf",
    "timm:vit_tiny_patch16_224",
    "timm:mobilevit_xxs",
    "ultralytics:yolo11n-cls.yaml",
]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_small_network_is_pruned_to_half_and_all_random_plans_are_exact(name: str, monkeypatch) -> None:
    if find_spec(name.partition(":")[0]) is None:
        pytest.skip("needs the extra")
    monkeypatch.setattr(study, "SIDE", 64)
    monkeypatch.setattr(study, "SMALL_SIDES", (32, 64))
    monkeypatch.setattr(study, "N_PLANS", 3)

    *_, row = study.study(name)

    assert row["status"] == "complete", row
    assert 0.4 < row["half"] <= 0.5
    assert (row["flops_off"], row["params_off"]) == (0, 0)
    assert row["outputs_off"] < 1e-4


def test_every_network_of_the_study_exists() -> None:
    timm = pytest.importorskip("timm")

    assert len(study.names()) == 80 + 20 + 14
    assert all(timm.is_model(name) for name in study.TIMM)
    known = {name.partition(":")[2] for name in study.names()}
    assert known >= study.NOT_BY_TORCH_PRUNING | study.UNTRIED_BY_TORCH_PRUNING
