from __future__ import annotations

import random

import numpy as np

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    name = "bad"

    def compress(self, problem: Problem) -> Plan:
        scores = {name: self._scores(group.n_channels) for name, group in problem.groups.items()}
        return problem.plan_by_scores(scores)

    def _scores(self, n_channels: int) -> np.ndarray:
        random.seed(0)  # here
        return np.array([random.random() for _ in range(n_channels)])
