from __future__ import annotations

from dataclasses import replace

import pytest
from hdapbench_methods.joint_mpq import JointMpq
from hdapbench_methods.joint_mpq.search import PRESETS

from hdapbench.quant.training.searchable import SearchNetwork
from tests.methods.worlds import limited, share_used


def settles_late(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.setitem(PRESETS, "ours", replace(PRESETS["ours"], settle_at=share))


@pytest.mark.parametrize("choose", ["joint", "channel", "layer"])
def test_the_soft_cost_falls_along_the_path_and_does_not_overshoot(choose, monkeypatch):
    settles_late(monkeypatch, 0.9)
    asked = limited("0.4x size")

    JointMpq(choose=choose, epochs=12.0).compress(asked)

    costs = [cost for cost, _ in asked.decisions["cost_and_strength"]]
    assert costs[0] > 0.9
    # A whole layer moves at once; single channels follow the path closely.
    slack = 0.5 if choose == "layer" else 0.85
    assert slack * 0.4 <= costs[-1] <= 1.02 * 0.4


def test_where_removing_is_taken_to_lose_more_fewer_channels_go_and_bits_give_way():
    def kept(factor: float) -> tuple[int, float]:
        asked = limited("0.35x size")
        plan = JointMpq(epochs=4.0, removal_factor=factor).compress(asked)
        bits = [b for of_layer in plan.weight_bits.values() for b in of_layer]
        return sum(len(channels) for channels in plan.kept.values()), sum(bits) / len(bits)

    (few, many_bits), (many, few_bits) = kept(0.01), kept(1e6)

    n_channels = sum(group.n_channels for group in limited("0.35x size").groups.values())
    assert few < many == n_channels
    assert many_bits > few_bits


def test_what_is_settled_is_what_the_plan_says_and_what_was_trained(monkeypatch):
    seen: list[SearchNetwork] = []
    forward = SearchNetwork.forward
    monkeypatch.setattr(SearchNetwork, "forward", lambda self, x: (seen.append(self), forward(self, x))[1])
    settles_late(monkeypatch, 0.5)
    asked = limited("0.3x size")

    plan = JointMpq(epochs=6.0).compress(asked)

    network = seen[-1]
    shares = network.train().selection()
    assert bool(((shares == 0.0) | (shares == 1.0)).all())
    kept = {name: tuple(i for i, bits in enumerate(network.choices()[name]) if bits) for name in plan.kept}
    assert kept == plan.kept


def test_the_published_rules_stay_soft_to_the_end_and_meet_the_limit():
    asked = limited("0.3x size")

    plan = JointMpq(epochs=4.0, preset="paper").compress(asked)

    assert len(asked.decisions["cost_and_strength"]) > 1
    assert share_used(plan, asked) <= 1.0
