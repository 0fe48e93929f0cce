from __future__ import annotations

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    """Keep the largest.

    Never sees: tomorrow.
    """

    name = "bad"

    def compress(self, problem: Problem) -> Plan:
        share = problem.solve_ratio()
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")
