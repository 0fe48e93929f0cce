from __future__ import annotations

import importlib.util
import random

import numpy as np
import pytest
import torch
from hdapbench_methods.amc.clipping import ActionClipper
from hdapbench_methods.amc.method import Amc, Search
from hdapbench_methods.amc.states import StateTable

from hdapbench.errors import TargetUnreachableError
from hdapbench.method import Plan, Problem
from hdapbench.method.plans import flops_of
from hdapbench.spec import BudgetSpec
from hdapbench.testing import tiny_problem
from tests.methods.worlds import bench_of, problem_on

needs_extra = pytest.mark.skipif(importlib.util.find_spec("stable_baselines3") is None, reason="extra amc is absent")


class TestClipping:
    def test_an_agent_that_wants_everything_gets_the_widest_that_still_fits(self) -> None:
        cost = bench_of("mobilenetv1").network.cost
        target = cost.dense.flops // 2
        clipper = ActionClipper.of(cost, target, least_share=0.2)
        widths = cost.sizes.copy()

        for group in range(len(widths)):
            widths[group] = clipper.width(group, widths[:group], 1.0)

        assert widths[0] == cost.sizes[0]
        clipped = np.flatnonzero(widths < cost.sizes)
        assert len(clipped) > 1
        for group in clipped:  # one more channel would leave the target out of reach
            plan = np.concatenate([widths[:group], clipper.floors[group:]])
            plan[group] = widths[group] + 1
            assert cost.flops(plan)[0] > target

    def test_rounding_goes_up_as_published_unless_the_budget_needs_it_down(self) -> None:
        cost = bench_of("mobilenetv1").network.cost
        loose = ActionClipper.of(cost, cost.dense.flops, least_share=0.2, round_to=8)
        tight = ActionClipper.of(cost, int(cost.flops(loose.floors)[0]), least_share=0.2, round_to=8)

        assert loose.width(0, np.array([], dtype=np.int64), 0.51) == 16  # 16.3 of 32 are 16 channels, a multiple of 8
        assert loose.width(0, np.array([], dtype=np.int64), 0.53) == 24  # 17 of 32
        assert tight.width(0, np.array([], dtype=np.int64), 0.53) == loose.floors[0] == 8

    def test_floors_above_the_target_are_said(self) -> None:
        cost = bench_of("mobilenetv1").network.cost

        with pytest.raises(TargetUnreachableError, match="lower least_share"):
            ActionClipper.of(cost, cost.dense.flops // 2, least_share=0.9)

    def test_a_group_narrower_than_the_rounding_stays_dense(self) -> None:
        cost = tiny_problem("plain").cost

        clipper = ActionClipper.of(cost, cost.dense.flops, least_share=0.2, round_to=8)

        assert [widths.tolist() for widths in clipper.allowed] == [[8], [2], [8, 16]]


class TestStates:
    def test_the_fixed_part_describes_the_first_layer_of_each_group_scaled_to_the_unit_interval(self) -> None:
        net = bench_of("mobilenetv1", 32).network
        table = StateTable.of(net.cost, net.kernels)

        assert table.static.shape == (14, 8)
        assert table.static.min() == 0
        assert table.static.max() == 1
        assert table.static[:, 0] == pytest.approx(np.arange(14) / 13)
        assert table.static[:, 1] == pytest.approx((net.cost.sizes - 32) / (1024 - 32))
        # The first group is the 3x3 stem of three channels, all others begin with a 1x1 convolution.
        assert table.static[:, 2] == pytest.approx((np.array([3, *net.cost.sizes[:-1]]) - 3) / (1024 - 3))
        assert table.static[:, 6].tolist() == [1] + [0] * 13

    def test_flops_of_a_group_are_those_of_the_layers_that_make_its_channels_depthwise_ones_included(self) -> None:
        net = bench_of("mobilenetv1", 32).network

        later = StateTable.of(net.cost, net.kernels).later

        # Only what the classifier takes follows the last group, and it counts for it: nothing is later.
        assert later[-1] == 0
        last = 1024 * 1024 + 1024 * 4  # 32 pixels, halved five times; its depthwise layer belongs to the group before
        assert later[-2] == pytest.approx(last / net.cost.dense.flops, rel=0.02)
        assert (np.diff(later) < 0).all()

    def test_the_moving_part_tells_what_was_removed_what_is_left_and_the_last_action(self) -> None:
        net = bench_of("mobilenetv1", 32).network
        table = StateTable.of(net.cost, net.kernels)
        widths = net.cost.sizes.copy()

        first = table.state(0, widths)
        widths[0] //= 2
        second = table.state(1, widths)

        assert first[8:].tolist() == [0.0, table.later[0], 1.0]
        assert second[8] == pytest.approx(1 - net.cost.flops(widths)[0] / net.cost.dense.flops)
        assert second[8] > 0
        assert second[10] == 0.5
        assert first.shape == second.shape == (11,)


@needs_extra
class TestEnvironment:
    def environment(self, rewards: list[np.ndarray]) -> object:
        from hdapbench_methods.amc.environment import PruningEnv

        net = bench_of("mobilenetv1").network

        def reward_of(widths: np.ndarray) -> float:
            rewards.append(widths)
            return 0.75

        clipper = ActionClipper.of(net.cost, net.cost.dense.flops // 2, least_share=0.2)
        return PruningEnv(StateTable.of(net.cost, net.kernels), clipper, reward_of)

    @pytest.mark.filterwarnings("ignore:.*")  # the checker recommends symmetric actions
    def test_it_is_an_environment_by_the_checkers_of_gymnasium_and_stable_baselines(self) -> None:
        from gymnasium.utils.env_checker import check_env
        from stable_baselines3.common.env_checker import check_env as check_for_baselines

        check_env(self.environment([]), skip_render_check=True)
        check_for_baselines(self.environment([]))

    def test_only_the_last_step_is_rewarded_and_ends_the_episode(self) -> None:
        seen: list[np.ndarray] = []
        env = self.environment(seen)
        env.reset()

        steps = [env.step(np.array([0.6])) for _ in range(14)]

        assert [step[1] for step in steps] == [0.0] * 13 + [0.75]
        assert [step[2] for step in steps] == [False] * 13 + [True]
        assert len(seen) == 1
        assert (steps[-1][4]["widths"] == seen[0]).all()
        assert all(env.observation_space.contains(step[0]) for step in steps)
        for number, step in enumerate(steps[:-1]):
            assert step[4]["share"] == pytest.approx(float(step[0][10]))
            assert step[4]["share"] == pytest.approx(
                seen[0][number] / bench_of("mobilenetv1").network.cost.sizes[number]
            )

    def test_a_new_episode_forgets_the_last_one(self) -> None:
        env = self.environment([])
        first, _ = env.reset()
        env.step(np.array([0.3]))

        again, _ = env.reset()

        assert (first == again).all()


@needs_extra
class TestExploration:
    def test_draws_stay_in_the_unit_interval_around_their_mean(self) -> None:
        from hdapbench_methods.amc.agent import truncated_normal

        rng = np.random.default_rng(0)
        wide = np.array([truncated_normal(0.9, 0.5, rng) for _ in range(4000)])
        narrow = np.array([truncated_normal(0.3, 0.01, rng) for _ in range(400)])

        assert wide.min() >= 0
        assert wide.max() <= 1
        assert 0.5 < wide.mean() < 0.7  # cut off above far more than below
        assert narrow.mean() == pytest.approx(0.3, abs=0.003)
        assert narrow.std() == pytest.approx(0.01, rel=0.2)

    def test_some_decisions_are_explored_at_least_one_and_where_asked_all(self) -> None:
        from hdapbench_methods.amc.agent import Schedule

        def explored(share: float, n_groups: int) -> np.ndarray:
            schedule = Schedule(Amc(explored=share), episodes=40, first_share=0.6)
            rng = np.random.default_rng(0)
            return np.stack([schedule.explores(n_groups, rng) for _ in range(400)])

        assert explored(0.25, 30).mean() == pytest.approx(0.25, abs=0.01)
        assert explored(0.01, 3).any(axis=1).all()
        assert explored(1.0, 30).all()

    def test_the_warm_up_draws_around_uniform_pruning_or_uniformly_and_exploration_falls_to_its_least(self) -> None:
        from hdapbench_methods.amc.agent import Schedule

        def schedule(deviation: float | None, decay: float | None = None) -> Schedule:
            method = Amc(warmup_deviation=deviation, deviation=0.2, least_deviation=0.05, decay=decay)
            return Schedule(method, episodes=40, first_share=0.6)

        rng = np.random.default_rng(0)
        near = np.array([schedule(0.1).warmup_action(rng) for _ in range(2000)])
        anywhere = np.array([schedule(None).warmup_action(rng) for _ in range(2000)])

        assert near.mean() == pytest.approx(0.6, abs=0.02)
        assert near.std() == pytest.approx(0.1, abs=0.01)
        assert anywhere.mean() == pytest.approx(0.5, abs=0.03)
        assert anywhere.std() == pytest.approx(12**-0.5, abs=0.02)
        assert schedule(None).deviation(9) is None
        assert schedule(None).deviation(10) == 0.2
        assert schedule(None).deviation(19) == pytest.approx(0.2 * 0.1**0.5)
        assert schedule(None).deviation(30) == 0.05
        assert schedule(None, decay=0.95).deviation(12) == pytest.approx(0.2 * 0.95**2)

    def test_the_untrained_actor_asks_for_the_same_share_everywhere(self) -> None:
        from hdapbench_methods.amc.agent import _begin_at
        from stable_baselines3 import DDPG

        env = TestEnvironment().environment([])
        agent = DDPG("MlpPolicy", env, policy_kwargs={"net_arch": [300, 300]}, seed=0, device="cpu", buffer_size=10)

        _begin_at(agent, 0.7)

        states = np.random.default_rng(0).random((50, 11), dtype=np.float32)
        assert agent.predict(states, deterministic=True)[0] == pytest.approx(0.7, abs=0.02)

    def test_imitation_draws_the_actor_to_the_best_episode_and_no_other(self) -> None:
        from hdapbench_methods.amc.agent import _Best
        from stable_baselines3 import DDPG

        env = TestEnvironment().environment([])
        agent = DDPG("MlpPolicy", env, policy_kwargs={"net_arch": [300, 300]}, seed=0, device="cpu", buffer_size=10)
        states = np.random.default_rng(0).random((14, 11), dtype=np.float32)
        good, bad = np.linspace(-0.5, 0.5, 14, dtype=np.float32), np.full(14, 0.9, dtype=np.float32)
        best = _Best(agent)

        best.imitate(5)  # nothing seen, nothing to imitate
        for actions, reward in ((bad, 0.1), (good, 0.7), (bad, 0.3)):
            best.see(
                [(state[None], state[None], np.array([[a]]), False) for state, a in zip(states, actions, strict=True)],
                reward,
            )
        best.imitate(150)

        with torch.no_grad():
            found = agent.actor(torch.as_tensor(states)).numpy()[:, 0]
        assert np.abs(found - good).mean() < 0.1

    def test_the_buffer_takes_a_moving_mean_off_the_rewards_from_the_first_batch_on_and_scales_them(self) -> None:
        from gymnasium.spaces import Box
        from hdapbench_methods.amc.agent import BaselineBuffer

        buffer = BaselineBuffer(10, Box(0, 1, (2,)), Box(0, 1, (1,)), device="cpu")
        for number in range(10):
            reward = np.array([0.8 + 0.01 * (-1) ** number])
            buffer.add(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros((1, 1)), reward, np.array([False]), [{}])

        given = [buffer.sample(4000).rewards for _ in range(3)]

        assert [float(rewards.mean()) for rewards in given] == pytest.approx([0, 0, 0], abs=0.1)
        assert float(given[0].std()) == pytest.approx(1.0, rel=0.02)


@needs_extra
class TestSearching:
    METHOD = Amc(episodes=20, recalibrate=0)

    def search(self, problem: Problem, monkeypatch: pytest.MonkeyPatch, method: Amc = METHOD) -> tuple[Search, Plan]:
        """Search with an accuracy that likes late groups wide, so that there is something to learn."""

        def accuracy(plan: Plan, fine_tune_epochs: float = 0.0, **_: object) -> float:
            problem.budget.charge("accuracy_evals", 1)
            share = np.array(plan.widths(list(problem.groups))) / problem.cost.sizes
            return float(np.average(share, weights=np.arange(len(share))))

        monkeypatch.setattr(problem, "accuracy", accuracy)
        search = Search(method, problem)
        return search, search.best()

    def test_it_learns_what_random_actions_do_not_find(self, monkeypatch: pytest.MonkeyPatch) -> None:
        problem = problem_on(bench_of("resnet8"))

        search, plan = self.search(problem, monkeypatch, Amc(episodes=80, recalibrate=0))

        rewards = np.array(search.trace)
        assert rewards[-20:].mean() > rewards[:20].mean() + rewards[:20].std()
        assert rewards.max() > rewards[:20].max()
        share = np.array(plan.widths(list(problem.groups))) / problem.cost.sizes
        assert float(np.average(share, weights=np.arange(len(share)))) == rewards.max()
        assert 0.97 * problem.target_flops <= flops_of(problem, plan) <= problem.target_flops

    def test_the_guaranteed_reward_goes_below_the_target_where_accuracy_allows(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        problem = problem_on(bench_of("resnet8"), 0.9)
        monkeypatch.setattr(problem, "accuracy", lambda plan, epochs=0.0, **_: 0.9)

        plan = Amc(episodes=16, recalibrate=0, reward="guaranteed").compress(problem)

        assert flops_of(problem, plan) < 0.6 * problem.target_flops

    def test_the_guaranteed_reward_is_minus_error_times_the_logarithm_of_flops(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        problem = problem_on(bench_of("resnet8"))
        monkeypatch.setattr(problem, "accuracy", lambda plan, epochs=0.0, **_: 0.9)
        search = Search(Amc(episodes=1, recalibrate=0, reward="guaranteed"), problem)

        plan = search.best()

        assert search.trace == [pytest.approx(-0.1 * np.log(flops_of(problem, plan)))]

    def test_there_are_as_many_episodes_as_evaluations_and_each_strategy_is_charged_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        problem = problem_on(bench_of("resnet8"), budget=BudgetSpec(accuracy_evals=7))
        anywhere = Amc(episodes=20, recalibrate=0, warmup_deviation=None, explored=1.0)

        search, _ = self.search(problem, monkeypatch, anywhere)

        assert len(search.trace) == problem.budget.spent.accuracy_evals <= 7
        assert len(search.trace) >= 5

    def test_an_evaluation_charges_its_recalibration_as_a_third_of_training(self) -> None:
        problem = tiny_problem("residual", budget=BudgetSpec(train_epochs=1.0))

        Amc(episodes=20, recalibrate=16, reconstruct="none").compress(problem)

        spent = problem.budget.spent
        assert spent.train_epochs == pytest.approx(0.25 / 3 * spent.accuracy_evals)
        assert 0 < spent.train_epochs <= 1.0

    def test_the_best_strategy_is_refit_within_the_budget_of_training(self) -> None:
        problem = tiny_problem("residual", budget=BudgetSpec(train_epochs=1.0))

        plan = Amc(episodes=20, recalibrate=16).compress(problem)

        spent = problem.budget.spent
        assert plan.weights is not None
        assert spent.accuracy_evals > 1
        assert spent.train_epochs == pytest.approx(
            0.25 / 3 * spent.accuracy_evals + problem.training.reconstruction_epochs
        )
        assert spent.train_epochs <= 1.0

    def test_every_strategy_is_refit_before_its_evaluation_where_that_is_asked_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        problem = tiny_problem("residual")
        refit: list[bool] = []
        monkeypatch.setattr(
            problem, "accuracy", lambda plan, epochs=0.0, **how: refit.append(how["reconstruct"]) or 0.9
        )

        Amc(episodes=3, recalibrate=16, reconstruct="each").compress(problem)
        Amc(episodes=3, recalibrate=16).compress(problem)

        assert set(refit) == {True, False}
        assert refit == sorted(refit, reverse=True)

    def test_global_random_state_is_put_back_though_the_agent_uses_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        random.seed(3)
        np.random.seed(3)  # noqa: NPY002
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

        self.search(problem_on(bench_of("resnet8")), monkeypatch, Amc(episodes=4, recalibrate=0))

        after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
        assert before == after


def test_a_missing_extra_is_a_reason_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    reason = Amc().skip(tiny_problem("plain"))

    assert reason == "stable-baselines3 and gymnasium not installed; install with: pip install 'hdapbench[amc]'"
