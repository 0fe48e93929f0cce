"""Decisions of several kinds on every group, as a gymnasium environment: one share after another, the end rewarded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from hdapbench.arrays import Floats

N_KINDS = 3


class DecisionEnv(gymnasium.Env):  # type: ignore[misc]
    """Three shares in [0, 1] for each group, one after another; the reward is 0 until the last one.

    Parameters
    ----------
    features
        What is fixed of each group, shape (n_groups, n_features).
    used
        Shares decided so far -> share of the limit that they use.
    reward_of
        All shares, shape (3 * n_groups,) -> reward.
    """

    def __init__(self, features: Floats, used: Callable[[Floats], float], reward_of: Callable[[Floats], float]) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (features.shape[1] + N_KINDS + 2,), np.float32)
        self.action_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
        self._features, self._used, self._reward_of = features, used, reward_of
        self._shares: list[float] = []

    @property
    def n_groups(self) -> int:
        """Decisions of an episode."""
        return N_KINDS * len(self._features)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:  # noqa: ARG002
        """First state of an episode; ``options`` are not used."""
        super().reset(seed=seed)
        self._shares = []
        return self._observation(), {}

    def step(self, action: NDArray[np.floating]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Next state, reward, whether the episode has ended, False, and nothing."""
        self._shares.append(float(np.clip(np.asarray(action).reshape(-1)[0], 0.0, 1.0)))
        if len(self._shares) < self.n_groups:
            return self._observation(), 0.0, False, False, {}
        return self._observation(), float(self._reward_of(np.array(self._shares))), True, False, {}

    def _observation(self) -> NDArray[np.float32]:
        place = min(len(self._shares), self.n_groups - 1)
        kind = np.eye(N_KINDS)[place % N_KINDS]
        used = min(self._used(np.array(self._shares)) / 10.0, 1.0)
        before = self._shares[-1] if self._shares else 1.0
        found: NDArray[np.float32] = np.array([*self._features[place // N_KINDS], *kind, used, before], np.float32)
        return found
