"""The method `amc-bits`: AMC's agent decides how, how much and to how many bits each group is pruned and quantised."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from hdapbench.arrays import Floats, Integers
from hdapbench.errors import BudgetExceededError, ModelError, TargetUnreachableError
from hdapbench.method import Method, Plan, Problem
from hdapbench.spec import TargetKind

from .method import PACKAGES, Amc

if TYPE_CHECKING:
    from hdapbench.cost.bits import BitLayers
    from hdapbench.cost.hardware import HardwareCost

CRITERIA = ("l1", "fpgm", "taylor")
"""Pruning algorithms that a group can take: by size, by distance from the others, by gradients."""

WEIGHT_BITS = (0, 2, 4, 8)
LOSS_IMAGES = 256
CUT = 0.1
"""Share of a group's channels that go at once where a choice is above the limit."""

TIE = 1e-6
"""Weight of the smooth cost, which tells choices apart where the exact one is a maximum that neither lowers."""


class AmcBits(Method):
    """Let a DDPG agent choose a pruning algorithm, a kept share and a weight bit-width for every channel group.

    After "Hardware-aware DNN compression via diverse pruning and mixed-precision quantization" (arXiv 2312.15322), of
    which the abstract is followed: a composite agent searches pruning and quantisation together under an energy budget.
    Ours: the agent of `amc` makes three decisions per group, one after another; pruning is of channels (``l1``,
    ``fpgm``, ``taylor``); a choice above the limit is cut where that saves most until the exact cost holds; an episode
    is rewarded by minus the loss of the quantised network on training images, without training. Energy on MPIC is a
    multiple of its cycles, so a limit on those is one on energy. ``share`` of the epochs is spent on episodes; the rest
    trains the weights at the bits chosen.

    Source: arXiv 2312.15322, in our form.
    Needs: the extra amc; a model whose every node has an integer counterpart; is charged for looking at images and for
    training.
    Never sees: latency, accuracy.
    """

    name = "amc-bits"
    extra = "amc"
    targets: ClassVar[frozenset[TargetKind]] = frozenset({"size", "mpic", "ne16", "ram", "flash"})

    epochs: float | None = Field(
        default=None, ge=0.0, description="Training epochs in all; null takes as many as the final fine-tuning."
    )
    share: float = Field(default=0.5, gt=0.0, lt=1.0, description="Share of the epochs that episodes may use.")
    episodes: int = Field(default=300, ge=1, description="Choices tried at most.")

    def skip(self, problem: Problem) -> str | None:
        """Reason when a package is not installed, or the model or the cost is not for bits."""
        from hdapbench.cost.hardware import hardware_cost

        missing = [name.replace("_", "-") for name in PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            return f"{' and '.join(missing)} not installed; install with: pip install 'hdapbench[amc]'"
        try:
            layers = problem.quantization.folded().layers
            hardware_cost(problem.limit.cost[0])(layers, layers.uniform_counts(8))
        except ModelError as error:
            return str(error)
        return None

    def compress(self, problem: Problem) -> Plan:
        """Plan of the best episode, its weights trained at its bits."""
        from hdapbench.method.at_bits import LossAtBits, trained_at

        from .agent import Schedule, search
        from .decisions import DecisionEnv

        epochs = problem.training.fine_tune_epochs if self.epochs is None else self.epochs
        begun = problem.budget.spent.train_epochs
        choices = _Choices(problem)
        loss = LossAtBits(problem, WEIGHT_BITS, LOSS_IMAGES)
        episodes = max(1, min(self.episodes, int(self.share * epochs / loss.epochs)))
        best: tuple[float, Mapping[str, tuple[int, ...]]] | None = None

        def reward(shares: Floats) -> float:
            nonlocal best
            bits = choices.bits(shares)
            found = -loss(bits)
            if best is None or found > best[0]:
                best = found, bits
            return found

        env = DecisionEnv(choices.features, choices.share_used, reward)
        schedule = Schedule(Amc(episodes=episodes), episodes, first_share=0.5)
        try:
            search(env, schedule, seed=problem.training.seed, on_episode=lambda n, r: _told(problem, n, r))
        except BudgetExceededError:
            if best is None:
                raise
        assert best is not None  # noqa: S101 - there is an episode
        problem.remember("best_loss", -best[0])
        left = max(0.0, epochs - (problem.budget.spent.train_epochs - begun))
        return trained_at(problem, best[1], left)


def _told(problem: Problem, episode: int, reward: float) -> None:
    problem.progress(f"episode {episode + 1}: loss {-reward:.4f}")


class _Choices:
    """Shares in [0, 1], three per selector -> bits of every channel that hold the limit."""

    def __init__(self, problem: Problem) -> None:
        from hdapbench.cost.hardware import hardware_cost, soft_cost

        name, self._limit = problem.limit.cost
        self._cost, self._soft = hardware_cost(name), soft_cost(name)
        self._layers: BitLayers = problem.quantization.folded().layers
        self._scores = [problem.importance(criterion) for criterion in CRITERIA]
        self._sizes = np.array([selector.n_channels for selector in self._layers.selectors])
        self._prunable = np.array([selector.prunable for selector in self._layers.selectors])
        if self._used(np.where(self._prunable, 1, self._sizes), np.ones_like(self._sizes)) > self._limit:
            raise TargetUnreachableError(
                f"at the fewest bits and channels the cost exceeds {self._limit:,.0f} ({name})"
            )
        self.features = self._described()

    def bits(self, shares: Floats) -> dict[str, tuple[int, ...]]:
        """Selector -> bits of each channel, 0 for those that go; ``shares`` has shape (3 * n_selectors,)."""
        criterion, kept, column = self._decided(shares)
        kept, column = self._held(kept, column)
        found = {}
        for row, selector in enumerate(self._layers.selectors):
            width = WEIGHT_BITS[column[row]]
            if not selector.prunable:
                found[selector.name] = (width,) * selector.n_channels
                continue
            order = np.argsort(-np.asarray(self._scores[criterion[row]][selector.name]), kind="stable")
            stays = set(order[: kept[row]].tolist())
            found[selector.name] = tuple(width if channel in stays else 0 for channel in range(selector.n_channels))
        return found

    def share_used(self, shares: Floats) -> float:
        """Cost of what is decided, with all other groups dense at 8 bits, over the limit."""
        _, kept, column = self._decided(np.append(shares, np.ones(3 * len(self._sizes) - len(shares))))
        return self._used(kept, column) / self._limit

    def _decided(self, shares: Floats) -> tuple[Integers, Integers, Integers]:
        """Algorithm, channels kept and column of the bits of each selector, each of shape (n_selectors,)."""
        of_algorithm, of_width, of_bits = np.asarray(shares).reshape(-1, 3).T
        algorithm = np.minimum((of_algorithm * len(CRITERIA)).astype(np.int64), len(CRITERIA) - 1)
        kept = np.where(self._prunable, np.clip(np.rint(of_width * self._sizes), 1, self._sizes), self._sizes)
        column = 1 + np.minimum((of_bits * 3).astype(np.int64), 2)
        return algorithm, kept.astype(np.int64), column

    def _held(self, kept: Integers, column: Integers) -> tuple[Integers, Integers]:
        """A choice that is cut where that saves most until the limit holds."""
        while (now := self._used(kept, column)) > self._limit:
            best: tuple[float, Integers, Integers] | None = None
            for row, size in enumerate(self._sizes):
                fewer, lower = kept.copy(), column.copy()
                if column[row] > 1:
                    lower[row] -= 1
                elif self._prunable[row] and kept[row] > 1:
                    fewer[row] = max(1, kept[row] - max(1, round(CUT * size)))
                else:
                    continue
                saved = now - self._used(fewer, lower) - TIE * self._used(fewer, lower, self._soft)
                if best is None or saved > best[0]:
                    best = saved, fewer, lower
            assert best is not None  # noqa: S101 - the fewest bits and channels hold it
            _, kept, column = best
        return kept, column

    def _used(self, kept: Integers, column: Integers, cost: HardwareCost | None = None) -> float:
        """Cost of a choice: the limited one, unless another is named."""
        import torch

        channels = torch.zeros(len(kept), len(WEIGHT_BITS), dtype=torch.float64)
        rows = torch.arange(len(kept))
        channels[rows, 0] = torch.as_tensor(self._sizes - kept).double()
        channels[rows, torch.as_tensor(column)] = torch.as_tensor(kept).double()
        return float((cost or self._cost)(self._layers, self._layers.counts(channels, WEIGHT_BITS)))

    def _described(self) -> Floats:
        """What an agent sees of each selector, shape (n_selectors, 3): place, channels, and what it costs at 8 bits."""
        dense, n = np.full(len(self._sizes), 3), len(self._sizes)
        whole = self._used(self._sizes, dense)
        alone = []
        for row in range(n):
            column = dense.copy()
            column[row] = 1
            alone.append(whole - self._used(self._sizes, column))
        saved = np.array(alone)
        rows: list[Any] = [
            np.arange(n) / max(1, n - 1),
            self._sizes / self._sizes.max(),
            saved / (np.abs(saved).max() or 1.0),
        ]
        return np.stack(rows, 1)
