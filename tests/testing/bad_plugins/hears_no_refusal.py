from __future__ import annotations

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    name = "bad"

    def compress(self, problem: Problem) -> Plan:
        try:
            share = problem.solve_ratio()
        except Exception:
            share = 0.0
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")  # here
