from __future__ import annotations

import torch

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    name = "bad"

    def compress(self, problem: Problem) -> Plan:
        model = problem.model()
        for group in problem.groups.values():
            for member in group.members:
                layer = model.get_submodule(member.layer)
                if isinstance(layer, torch.nn.Conv2d) and layer.groups > 1:
                    raise NotImplementedError("grouped convolution")  # here
        share = problem.solve_ratio()
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")
