from __future__ import annotations

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    name = "bad"

    def compress(self, problem: Problem) -> Plan:
        try:
            problem.latency(problem.cost.sizes)
        except Exception:
            raise ValueError("no latency, no plan") from None  # here
        share = problem.solve_ratio()
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")
