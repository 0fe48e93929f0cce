"""The search as a gymnasium environment: an episode decides on every group, its end is rewarded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from hdapbench.arrays import Integers

from .clipping import ActionClipper
from .states import N_FEATURES, StateTable


class PruningEnv(gymnasium.Env):  # type: ignore[misc]
    """One action per channel group, in order of execution: the share of channels to keep, in [0, 1].

    The reward is 0 until the last group is decided. ``info["share"]`` is the share that was really kept, after clipping
    and rounding; ``info["widths"]`` all widths at the end of an episode.

    Parameters
    ----------
    states
        What is observed.
    clipper
        Which widths an action becomes.
    reward_of
        Widths of all groups, shape (n_groups,) -> reward.
    """

    def __init__(self, states: StateTable, clipper: ActionClipper, reward_of: Callable[[Integers], float]) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (N_FEATURES,), np.float32)
        self.action_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
        self._states, self._clipper, self._reward_of = states, clipper, reward_of
        self._widths = states.cost.sizes.copy()
        self._group = 0

    @property
    def n_groups(self) -> int:
        """Actions per episode."""
        return len(self._widths)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """First state of an episode; ``options`` are not used."""
        super().reset(seed=seed, options=options)
        self._widths = self._states.cost.sizes.copy()
        self._group = 0
        return self._observation(), {}

    def step(self, action: NDArray[np.floating]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Next state, reward, whether the episode has ended, False, and what the action became."""
        group = self._group
        width = self._clipper.width(group, self._widths[:group], float(np.asarray(action).reshape(-1)[0]))
        self._widths[group] = width
        self._group += 1
        info: dict[str, Any] = {"share": width / self._states.cost.sizes[group]}
        if self._group < self.n_groups:
            return self._observation(), 0.0, False, False, info
        info["widths"] = self._widths.copy()
        self._group = self.n_groups - 1  # of the state after the last decision only the FLOPs removed are new
        return self._observation(), float(self._reward_of(info["widths"])), True, False, info

    def _observation(self) -> NDArray[np.float32]:
        return self._states.state(self._group, self._widths).astype(np.float32)
