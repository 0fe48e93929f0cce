from __future__ import annotations

import numpy as np

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    name = "bad"

    def compress(self, problem: Problem) -> Plan:
        CALLS.append(1)
        n_calls = len(CALLS)  # here
        scores = {name: np.arange(group.n_channels) * (-1.0) ** n_calls for name, group in problem.groups.items()}
        return problem.plan_by_scores(scores)


CALLS: list[int] = []
