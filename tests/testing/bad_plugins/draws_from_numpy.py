from __future__ import annotations

import numpy as np

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    name = "bad"

    def compress(self, problem: Problem) -> Plan:
        np.random.seed(0)  # here
        scores = {name: np.random.rand(group.n_channels) for name, group in problem.groups.items()}
        return problem.plan_by_scores(scores)
