from __future__ import annotations

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    name = "bad"

    def compress(self, problem: Problem) -> Plan:
        model = problem.model()
        scores = {}
        for name, group in problem.groups.items():
            reader = next(member.layer for member in group.members if member.side == "in")
            weight = model.get_submodule(reader).weight.detach()
            scores[name] = (
                weight.abs().flatten(2).sum((0, 2)).numpy() if weight.ndim == 4 else weight.abs().sum(0).numpy()
            )
        share = problem.solve_ratio()
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), scores)  # here
