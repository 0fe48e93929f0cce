from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdapbench.cost.ranking import keep_best, ranks_within
from hdapbench.cost.target import fill
from hdapbench.errors import TargetUnreachableError
from tests.cost.test_targets import chain

COST = chain([16, 40, 24])


def scores_of(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {name: rng.random(size) for name, size in zip(COST.groups, COST.sizes, strict=True)}


@given(st.integers(0, 1000), st.floats(0.15, 1.0), st.sampled_from([1, 4, 8]))
@settings(max_examples=60, deadline=None)
def test_what_stays_meets_the_target_in_multiples_and_scores_more_than_what_goes(seed, share, round_to):
    scores, target = scores_of(np.random.default_rng(seed)), int(share * COST.dense.flops)

    kept = keep_best(COST, scores, target, round_to=round_to)

    widths = np.array([len(kept[name]) for name in COST.groups])
    assert COST.flops(widths)[0] <= target
    assert (widths % round_to == 0).all()
    for name in COST.groups:
        gone = np.setdiff1d(np.arange(len(scores[name])), kept[name])
        assert len(gone) == 0 or scores[name][gone].max() < scores[name][list(kept[name])].min()


@given(st.integers(0, 1000), st.floats(0.2, 0.95))
@settings(max_examples=40, deadline=None)
def test_rounding_leaves_no_multiple_that_would_still_fit(seed, share):
    scores, target = scores_of(np.random.default_rng(seed)), int(share * COST.dense.flops)

    kept = keep_best(COST, scores, target, round_to=4)

    widths = np.array([len(kept[name]) for name in COST.groups])
    for group in range(3):
        wider = widths + 4 * (np.arange(3) == group)
        assert (wider > COST.sizes).any() or COST.flops(wider)[0] > target


def test_single_channels_go_across_groups_by_score_alone_and_no_more_than_needed():
    scores = {"g0": np.linspace(1, 2, 16), "g1": np.linspace(0, 0.1, 40), "g2": np.linspace(1, 2, 24)}

    kept = keep_best(COST, scores, int(0.6 * COST.dense.flops))

    assert [len(kept[name]) for name in ("g0", "g2")] == [16, 24]
    one_more = np.array([16, len(kept["g1"]) + 1, 24])
    assert COST.flops(one_more)[0] > int(0.6 * COST.dense.flops)


def test_a_target_below_the_smallest_widths_is_said_with_both_numbers():
    with pytest.raises(TargetUnreachableError, match="the fewest channels per group still need"):
        keep_best(COST, scores_of(np.random.default_rng(0)), COST.minimum_flops - 1)


def test_ranks_within_scopes_make_the_least_share_of_every_scope_compare():
    scores = {"a": np.array([5.0, 1.0]), "b": np.array([3.0, 7.0]), "c": np.array([0.1, 0.3])}

    ranks = ranks_within(scores, [["a", "b"], ["c"]])

    assert ranks["a"].tolist() == [0.75, 0.25]
    assert ranks["b"].tolist() == [0.5, 1.0]
    assert ranks["c"].tolist() == [0.5, 1.0]


def test_filling_grows_each_group_to_the_next_multiple_of_its_own_step():
    filled = fill(COST, [3, 9, 7], COST.dense.flops, round_to=np.array([4, 8, 5]))

    assert filled.tolist() == [16, 40, 20]
