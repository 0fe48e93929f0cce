from __future__ import annotations

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    name = "bad"
    kernel: tuple[int, ...] = (3, 3)

    def compress(self, problem: Problem) -> Plan:
        share = problem.solve_ratio()
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")
