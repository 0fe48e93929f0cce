from __future__ import annotations

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    name = "bad"

    def compress(self, problem: Problem) -> Plan:
        widths = problem.cost.sizes
        widths[:] = 1  # here
        return problem.plan_by_widths(widths, "l1")
