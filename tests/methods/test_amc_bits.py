from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("stable_baselines3", reason="the extra amc is not installed")

from hdapbench_methods.amc import AmcBits
from hdapbench_methods.amc.bits import _Choices

from hdapbench.errors import TargetUnreachableError
from hdapbench.testing import MethodContract
from tests.methods.worlds import limited, share_used


class TestAmcBits(MethodContract):
    @pytest.fixture
    def method(self) -> AmcBits:
        return AmcBits(epochs=1.0, episodes=4)


@pytest.mark.parametrize("target", ["0.35x size", "0.6x mpic", "0.7x ne16"])
def test_the_agent_meets_the_limit_and_spends_what_a_search_may(target):
    asked = limited(target)

    plan = AmcBits(epochs=4.0, episodes=6).compress(asked)

    assert share_used(plan, asked) <= 1.0
    assert asked.budget.spent.train_epochs == pytest.approx(4.0)


def test_any_shares_become_bits_that_hold_the_limit():
    asked = limited("0.2x size")
    choices, rng = _Choices(asked), np.random.default_rng(0)
    n = 3 * len(choices.features)

    found = [choices.bits(rng.random(n)) for _ in range(20)] + [choices.bits(np.ones(n)), choices.bits(np.zeros(n))]

    sizes = {name: group.n_channels for name, group in asked.groups.items()}
    assert all(len(bits[name]) == size and any(bits[name]) for bits in found for name, size in sizes.items())
    assert choices.share_used(np.array([])) == pytest.approx(5.0, rel=0.01), "dense at 8 bits"
    assert len({str(bits) for bits in found}) > 10


def test_different_algorithms_keep_different_channels():
    choices = _Choices(limited("1x size"))
    shares = np.tile([0.0, 0.5, 1.0], len(choices.features))
    by_size = choices.bits(shares)
    shares[0::3] = 1.0

    assert choices.bits(shares) != by_size


def test_a_limit_out_of_reach_is_said_before_an_episode():
    with pytest.raises(TargetUnreachableError, match="fewest bits"):
        AmcBits(epochs=1.0).compress(limited("0.01x size"))
