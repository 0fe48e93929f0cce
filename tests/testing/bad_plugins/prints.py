from __future__ import annotations

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    name = "prints"

    def compress(self, problem: Problem) -> Plan:
        share = problem.solve_ratio()
        print("share", share)  # here
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")
