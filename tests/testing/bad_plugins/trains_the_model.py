from __future__ import annotations

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    name = "bad"

    def compress(self, problem: Problem) -> Plan:
        model = problem._bench.network.model
        model.train()  # here
        share = problem.solve_ratio()
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")
