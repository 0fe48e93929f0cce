from __future__ import annotations

from hdapbench.method import Method, Plan, Problem
from hdapbench.spec import BudgetSpec


class Bad(Method):
    name = "bad"

    def compress(self, problem: Problem) -> Plan:
        problem.budget.limits = BudgetSpec()
        problem.latency(problem.cost.sizes)
        share = problem.solve_ratio()
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")
