from __future__ import annotations

import torch

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    name = "draws_from_torch"

    def compress(self, problem: Problem) -> Plan:
        torch.manual_seed(0)  # here
        scores = {name: torch.rand(group.n_channels).numpy() for name, group in problem.groups.items()}
        return problem.plan_by_scores(scores)
