from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdapbench.cost.model import CostModel
from hdapbench.cost.records import ChannelCount, LayerRecord
from hdapbench.cost.target import fill, largest_share, repair, widths_at_share
from hdapbench.errors import TargetUnreachableError


def chain(sizes: list[int], side: int = 4) -> CostModel:
    """Convolutions in a row, one group each, and a classifier of ten outputs."""
    names = [f"g{number}" for number in range(len(sizes))]
    counts = [ChannelCount(3), *(ChannelCount(0, {name: 1}) for name in names), ChannelCount(10)]
    records = [
        LayerRecord(
            f"layer{number}", "conv", (number - 1,), in_channels, out_channels, side, side, side, side, kernel_area=9
        )
        for number, (in_channels, out_channels) in enumerate(pairwise(counts))
    ]
    return CostModel.from_records(records, dict(zip(names, sizes, strict=True)))


COST = chain([16, 40, 24])


@st.composite
def costs_and_targets(draw: st.DrawFn) -> tuple[CostModel, int]:
    cost = chain(draw(st.lists(st.integers(1, 60), min_size=1, max_size=6)))
    target = draw(st.integers(cost.minimum_flops, cost.dense.flops))
    return cost, target


def flops_of(cost: CostModel, widths: np.ndarray) -> int:
    return int(cost.flops(widths)[0])


def test_a_share_keeps_the_nearest_number_of_channels_and_at_least_one():
    assert widths_at_share(COST, 0.5).tolist() == [8, 20, 12]
    assert widths_at_share(COST, 0.0).tolist() == [1, 1, 1]
    assert widths_at_share(COST, 1.0).tolist() == [16, 40, 24]
    assert widths_at_share(COST, [0.25, 0.5, 1.0]).tolist() == [4, 20, 24]
    assert widths_at_share(COST, np.full((2, 3), 0.5)).tolist() == [[8, 20, 12]] * 2


def test_rounded_widths_are_multiples_and_never_above_the_dense_width():
    assert widths_at_share(COST, 0.6, round_to=8).tolist() == [8, 24, 16]
    assert widths_at_share(COST, 0.0, round_to=8).tolist() == [8, 8, 8]
    assert widths_at_share(COST, 1.0, round_to=32).tolist() == [16, 32, 24]


@given(costs_and_targets(), st.sampled_from([1, 4]))
@settings(max_examples=60, deadline=None)
def test_the_largest_share_meets_the_target_and_the_next_step_does_not(case, round_to):
    cost, target = case
    if flops_of(cost, widths_at_share(cost, 0.0, round_to=round_to)) > target:
        return

    share = largest_share(cost, target, steps=12, round_to=round_to)

    assert flops_of(cost, widths_at_share(cost, share, round_to=round_to)) <= target
    above = widths_at_share(cost, share + 2**-12, round_to=round_to)
    assert share == 1.0 or flops_of(cost, above) > target


def test_a_target_of_the_dense_model_keeps_everything():
    assert largest_share(COST, COST.dense.flops) == 1.0


@pytest.mark.parametrize("solve", [largest_share, lambda cost, target: repair(cost, cost.sizes, target)])
def test_an_unreachable_target_is_an_error_with_all_three_numbers(solve):
    target = COST.minimum_flops - 1

    with pytest.raises(TargetUnreachableError) as caught:
        solve(COST, target)

    assert all(f"{number:,}" in str(caught.value) for number in (target, COST.minimum_flops, COST.dense.flops))


def test_coarse_rounding_can_make_a_target_unreachable():
    target = flops_of(COST, np.array([8, 8, 8])) - 1

    assert largest_share(COST, target) > 0
    with pytest.raises(TargetUnreachableError, match="multiples of 8"):
        largest_share(COST, target, round_to=8)


@given(costs_and_targets())
@settings(max_examples=60, deadline=None)
def test_filling_leaves_no_room_for_another_channel(case):
    cost, target = case
    start = widths_at_share(cost, largest_share(cost, target, steps=5))

    filled = fill(cost, start, target)

    assert flops_of(cost, filled) <= target
    assert (filled >= start).all()
    assert (filled <= cost.sizes).all()
    for group in np.flatnonzero(filled < cost.sizes):
        more = filled.copy()
        more[group] += 1
        assert flops_of(cost, more) > target


def test_filling_starts_with_the_group_that_kept_the_smallest_share():
    target = flops_of(COST, np.array([9, 20, 12]))

    assert fill(COST, [8, 20, 12], target).tolist() == [9, 20, 12]
    assert fill(COST, [12, 10, 20], flops_of(COST, np.array([12, 11, 20]))).tolist() == [12, 11, 20]


def test_filling_does_not_write_into_its_input():
    start = np.array([8, 20, 12])

    fill(COST, start, COST.dense.flops)

    assert start.tolist() == [8, 20, 12]


@given(costs_and_targets(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_repaired_plans_meet_the_target_and_others_are_left_alone(case, seed):
    cost, target = case
    plans = np.random.default_rng(seed).integers(1, cost.sizes + 1, size=(12, len(cost.sizes)))

    repaired = repair(cost, plans, target)

    over = cost.flops(plans) > target
    assert (cost.flops(repaired) <= target).all()
    assert np.array_equal(repaired[~over], plans[~over])
    assert (repaired >= 1).all()
    assert (repaired <= np.maximum(plans, 1)).all()


def test_repair_keeps_proportions():
    repaired = repair(COST, [[16, 40, 6]], COST.dense.flops // 8)[0]

    assert repaired[0] / 16 == pytest.approx(repaired[1] / 40, abs=0.07)
    assert repaired[2] / 24 == pytest.approx(repaired[0] / 16 / 4, abs=0.07)


def test_repaired_widths_can_be_multiples():
    repaired = repair(COST, [[16, 40, 24], [16, 24, 24]], COST.dense.flops // 3, round_to=8)

    assert (repaired % 8 == 0).all()
