from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hdapbench_methods.joint_mpq import JointMpq
from hdapbench_methods.joint_mpq.goal import Goal
from hdapbench_methods.joint_mpq.rivals import Rivals, _clusters

from hdapbench.errors import TargetUnreachableError
from hdapbench.quant.training.fixed import FixedNetwork
from tests.methods.worlds import limited, share_used

BITS = (2, 4, 8)


def rivals(target: str) -> Rivals:
    asked = limited(target)
    return Rivals(asked, Goal.of(asked, n_plans=8, least_channels=1), BITS, 1.0)


@pytest.mark.parametrize("target", ["0.45x size", "0.7x size", "0.9x mpic", "0.8x ne16"])
def test_the_integer_program_finds_what_trying_every_choice_finds(target):
    found = rivals(target)
    rng = np.random.default_rng(0)
    sensitivity = rng.random((len(found.goal.layers.selectors), 3)).cumsum(1)[:, ::-1] - 1e-3
    sensitivity[:, -1] = 0.0

    columns = found._solved(sensitivity)

    def loss(of: tuple[int, ...]) -> float:
        return sum(sensitivity[row, column] for row, column in enumerate(of))

    met = [of for of in product(range(3), repeat=len(columns)) if found._cost(np.array(of)) <= found.goal.limit]
    assert found._cost(columns) <= found.goal.limit
    if "ne16" not in target:  # its cycles are no sum over layers where channels of several bit-widths share tiles
        assert loss(tuple(columns)) == pytest.approx(min(map(loss, met)))


@pytest.mark.parametrize("choose", ["ilp", "sigma", "fixed"])
def test_rivals_of_whole_layers_say_when_their_fewest_bits_are_too_many(choose):
    with pytest.raises(TargetUnreachableError, match="target of"):
        JointMpq(choose=choose, epochs=0.5).compress(limited("0.2x size"))


def test_wide_layers_get_more_bits_and_equal_values_one_cluster():
    assert _clusters(np.array([0.1, 0.9, 0.11, 0.5, 0.92]), 3).tolist() == [0, 2, 0, 1, 2]
    assert len(set(_clusters(np.full(4, 0.3), 3).tolist())) == 1


def test_the_weights_of_a_rival_were_trained_at_the_bits_that_the_runner_deploys(monkeypatch):
    seen: list[FixedNetwork] = []
    forward = FixedNetwork.forward
    monkeypatch.setattr(FixedNetwork, "forward", lambda self, x: (seen.append(self), forward(self, x))[1])
    asked = limited("0.5x size")

    plan = JointMpq(choose="sigma", epochs=2.0).compress(asked)

    assert seen[-1].weight_bits == plan.weight_bits
    assert share_used(plan, asked) <= 1.0


def test_searches_under_several_limits_train_their_common_beginning_once():
    trained: list[float] = []
    first, second, alone = limited("0.5x size"), limited("0.3x size"), limited("0.3x size")
    for asked in (first, second, alone):
        asked.training._bench.shared.clear() if asked is not second else None
        train = asked.train
        asked.train = lambda model, epochs, train=train, **how: (trained.append(epochs), train(model, epochs, **how))

    plans = [JointMpq(epochs=2.0, warm_up=0.5).compress(asked) for asked in (first, second)]
    alone.training._bench.shared.clear()
    again = JointMpq(epochs=2.0, warm_up=0.5).compress(alone)

    assert trained == [1.0, 1.0, 1.0, 1.0, 1.0]
    assert [asked.budget.spent.train_epochs for asked in (first, second, alone)] == [2.0, 2.0, 2.0]
    assert share_used(plans[0], first) <= 1.0
    assert (plans[1].kept, plans[1].weight_bits) == (again.kept, again.weight_bits), "whoever came before does not bear"
