from __future__ import annotations

import numpy as np

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    name = "bad"

    def compress(self, problem: Problem) -> Plan:
        rng = np.random.default_rng()  # here
        scores = {}
        for name, group in problem.groups.items():
            scores[name] = rng.random(group.n_channels)
        return problem.plan_by_scores(scores)
