from __future__ import annotations

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    name = "bad"

    def compress(self, problem: Problem) -> Plan:
        try:
            problem.latency(problem.cost.sizes)
        except Exception:
            return problem.plan_by_widths(problem.cost.sizes, "l1")  # here
        share = problem.solve_ratio()
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")
