from __future__ import annotations

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    name = "bad"

    def compress(self, problem: Problem) -> Plan:
        share = problem.solve_ratio()
        plan = problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")
        return Plan(kept=dict(list(plan.kept.items())[1:]))  # here
