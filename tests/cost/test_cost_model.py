from __future__ import annotations

import numpy as np
import pytest

from hdapbench.cost.model import CostModel
from hdapbench.cost.records import ChannelCount, LayerRecord

RECORDS = (
    LayerRecord(
        "conv",
        "conv",
        (-1,),
        ChannelCount(3),
        ChannelCount(0, {"a": 1}),
        height_in=8,
        width_in=8,
        height_out=4,
        width_out=4,
        kernel_area=9,
        stride=2,
    ),
    LayerRecord("norm", "norm", (0,), *[ChannelCount(0, {"a": 1})] * 2, 4, 4, 4, 4, parameters_per_channel=2),
    LayerRecord("dw", "depthwise", (1,), *[ChannelCount(0, {"a": 1})] * 2, 4, 4, 4, 4, kernel_area=9, bias=True),
    LayerRecord("side", "conv", (2,), ChannelCount(0, {"a": 1}), ChannelCount(0, {"b": 1}), 4, 4, 4, 4),
    LayerRecord("join", "concat", (2, 3), *[ChannelCount(0, {"a": 1, "b": 1})] * 2, 4, 4, 4, 4),
    LayerRecord("fc", "linear", (4,), ChannelCount(2, {"a": 16, "b": 16}), ChannelCount(5), bias=True),
)
SIZES = {"a": 6, "b": 4}


@pytest.fixture
def cost() -> CostModel:
    return CostModel.from_records(RECORDS, SIZES)


def by_hand(a: int, b: int) -> tuple[int, int, int, int]:
    """FLOPs, parameters, parameter bytes and activation bytes of the records above."""
    read = 16 * a + 16 * b + 2
    flops = 3 * a * 9 * 16 + a * 9 * 16 + a * b * 16 + read * 5
    params = 3 * a * 9 + 2 * a + (9 * a + a) + a * b + (read * 5 + 5)
    values = (3 * 64 + a * 16) + (a * 16 + a * 16) + (a * 16 + b * 16) + (read + 5)
    return flops, params, params * 4, values * 4


def test_costs_are_those_of_pencil_and_paper(cost):
    costs = cost.evaluate([[6, 4], [1, 1], [5, 2]])

    rows = np.stack([costs.flops, costs.params, costs.parameter_bytes, costs.activation_bytes], axis=1)
    assert rows.tolist() == [list(by_hand(*widths)) for widths in ((6, 4), (1, 1), (5, 2))]


def test_costs_are_whole_numbers_of_the_right_shape(cost):
    for widths, n_plans in ([6, 4], 1), (np.ones((7, 2), dtype=np.int64), 7):
        costs = cost.evaluate(widths)
        assert {array.dtype for array in vars(costs).values()} == {np.dtype(np.int64)}
        assert {array.shape for array in vars(costs).values()} == {(n_plans,)}


def test_flops_alone_agree_with_the_full_evaluation(cost):
    widths = np.random.default_rng(0).integers(1, 5, size=(50, 2))

    assert np.array_equal(cost.flops(widths), cost.evaluate(widths).flops)


def test_dense_and_minimum_are_the_two_ends(cost):
    dense = cost.dense

    assert (dense.flops, dense.params, dense.parameter_bytes, dense.activation_bytes) == by_hand(6, 4)
    assert cost.minimum_flops == by_hand(1, 1)[0]
    assert type(dense.flops) is type(cost.minimum_flops) is int


def test_a_second_call_of_a_layer_adds_arithmetic_and_no_parameters():
    once = CostModel.from_records(RECORDS[:1], SIZES)
    again = LayerRecord(**{**vars(RECORDS[0]), "first": False})

    twice = CostModel.from_records((RECORDS[0], again), SIZES)

    assert twice.dense.flops == 2 * once.dense.flops
    assert twice.dense.activation_bytes == 2 * once.dense.activation_bytes
    assert twice.dense.params == once.dense.params


def test_costs_too_large_to_be_exact_are_refused_and_not_rounded():
    huge = LayerRecord("huge", "linear", (-1,), ChannelCount(0, {"a": 1}), ChannelCount(2**30))
    cost = CostModel.from_records((huge,), {"a": 2**24})

    assert cost.flops([2**22])[0] == 2**52
    with pytest.raises(OverflowError, match=r"2\*\*53"):
        cost.flops([2**24])


def test_a_grouped_convolution_that_could_be_pruned_is_refused():
    wrong = LayerRecord("wrong", "conv", (-1,), ChannelCount(0, {"a": 1}), ChannelCount(4), n_conv_groups=2)

    with pytest.raises(ValueError, match="depends on a group"):
        CostModel.from_records((wrong,), SIZES)


def test_counts_add_up_and_scale():
    total = ChannelCount(2, {"a": 1}) + ChannelCount(3, {"a": 2, "b": 1})

    assert total == ChannelCount(5, {"a": 3, "b": 1})
    assert total.scaled(4) == ChannelCount(20, {"a": 12, "b": 4})
