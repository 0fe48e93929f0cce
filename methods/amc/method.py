"""The method `amc`: its reward, and what it gives back."""

from __future__ import annotations

import importlib.util

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.target import fill, largest_share
from hdapbench.errors import BudgetExceededError, ModelError
from hdapbench.method import Plan, Problem

from .clipping import ActionClipper
from .parameters import Parameters
from .states import StateTable

PACKAGES = ("stable_baselines3", "gymnasium")


class Amc(Parameters):
    """Let a DDPG agent decide what share of each group stays, rewarded by accuracy on the search split.

    Groups are decided in order of execution, from eleven features each; actions are clipped so that the target stays in
    reach with all later groups at ``least_share``, and widths rounded to ``round_to``, never above the target. After
    ``warmup_share`` of the episodes with random actions, the agent acts, and of its actions those that are ``explored``
    are drawn from a truncated normal distribution around it, ever narrower. The best strategy of all episodes wins. The
    published agent (``warmup_share: 0.125, warmup_deviation: null, discount: 1, imitation: 0, deviation: 0.5,
    decay: 0.95, explored: 1, least_deviation: 0, reconstruct: each, round_to: 8``) needs more episodes than ours;
    ``methods.amc.agent`` says what else differs. Of a group those channels stay whose own weights have the largest norm
    (published: the weights that read them).

    ``reward: constrained`` is the accuracy, and what rounding leaves of the target is filled up. ``guaranteed`` is
    ``-error * log(FLOPs)``: it goes below the target where accuracy allows. Before a strategy is evaluated, its batch
    norms are estimated anew on ``recalibrate`` images; where there are none, give ``tune_epochs``. The best strategy's
    weights are refit by least squares to make up for what is gone (``reconstruct: each``, as published, does so before
    every evaluation, which takes twice the time). There are as many episodes as the budget allows.

    Source: He et al., AMC: AutoML for model compression, ECCV 2018.
    Needs: the extra amc; one accuracy evaluation for each distinct strategy; train_epochs to recalibrate and to tune.
    Never sees: latency.
    """

    name = "amc"
    extra = "amc"

    def skip(self, problem: Problem) -> str | None:
        """Reason when a package of the extra is not installed, or the criterion does not apply to the model."""
        missing = [name.replace("_", "-") for name in PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            return f"{' and '.join(missing)} not installed; install with: pip install 'hdapbench[amc]'"
        return problem.training.lack_of(self.criterion)

    def compress(self, problem: Problem) -> Plan:
        """Plan of the best reward; see `trace` for all of them."""
        return Search(self, problem).best()


class Search:
    """One search: evaluates strategies, remembers the best.

    Attributes
    ----------
    trace
        Reward of every evaluated strategy, in order.
    """

    def __init__(self, method: Amc, problem: Problem) -> None:
        self._method, self._problem = method, problem
        self._scores: dict[str, Floats] = problem.importance(method.criterion)
        self._known: dict[tuple[int, ...], float] = {}
        self.trace: list[float] = []

    def best(self) -> Plan:
        """Plan of the best strategy of all episodes.

        Raises
        ------
        TargetUnreachableError
            When the floors exceed the target.
        BudgetExceededError
            When the budget does not cover a single evaluation.
        """
        method, problem = self._method, self._problem
        clipper = ActionClipper.of(
            problem.cost, problem.target_flops, least_share=method.least_share, round_to=method.round_to
        )
        affordable = problem.budget.remaining("accuracy_evals")
        if epochs := method.tune_epochs + min(method.recalibrate / problem.training.n_train_images, 1.0) / 3:
            kept_back = 0.0 if method.reconstruct == "none" else problem.training.reconstruction_epochs
            affordable = min(affordable, (problem.budget.remaining("train_epochs") - kept_back + 1e-9) / epochs)
        episodes = max(int(min(method.episodes, affordable)), 1)
        from .agent import Schedule, search
        from .environment import PruningEnv

        schedule = Schedule(method, episodes, first_share=largest_share(problem.cost, problem.target_flops))
        env = PruningEnv(StateTable.of(problem.cost, problem.devices.kernels), clipper, self._reward)
        try:
            search(env, schedule, seed=problem.training.seed, on_episode=self._report)
        except BudgetExceededError as error:
            if not self._known:
                raise
            problem.progress(f"the search ends early: {error}")
        plan = problem.plan_by_widths(np.array(max(self._known, key=self._known.__getitem__)), self._scores)
        return plan if method.reconstruct == "none" else self._refit(plan)

    def _refit(self, plan: Plan) -> Plan:
        """The plan with weights refit by least squares, where that can be done and paid for."""
        try:
            return self._problem.training.reconstructed(plan)
        except (BudgetExceededError, ModelError) as error:
            self._problem.progress(f"weights stay as they are: {error}")
            return plan

    def _reward(self, widths: Integers) -> float:
        """Reward of a strategy; each distinct one is evaluated once."""
        method, problem = self._method, self._problem
        if method.reward == "constrained":
            widths = fill(problem.cost, widths, problem.target_flops, round_to=method.round_to)
        key = tuple(widths.tolist())
        if key not in self._known:
            plan = problem.plan_by_widths(widths, self._scores)
            refit = method.reconstruct == "each"
            accuracy = problem.accuracy(plan, method.tune_epochs, recalibrate=method.recalibrate, reconstruct=refit)
            flops = int(problem.cost.flops(widths)[0])
            self._known[key] = accuracy if method.reward == "constrained" else -(1.0 - accuracy) * float(np.log(flops))
            self.trace.append(self._known[key])
        return self._known[key]

    def _report(self, episode: int, reward: float) -> None:
        self._problem.progress(f"episode {episode + 1}: reward {reward:.4f}, best {max(self.trace):.4f}")
