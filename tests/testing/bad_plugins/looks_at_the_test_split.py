from __future__ import annotations

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    name = "bad"

    def compress(self, problem: Problem) -> Plan:
        share = problem.solve_ratio()
        plan = problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")
        test = problem._bench.search  # here
        problem.remember("n_test_images", len(test))
        return plan
