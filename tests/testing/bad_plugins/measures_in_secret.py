from __future__ import annotations

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    """Keep the largest.

    Source: none.
    Needs: weights.
    Never sees: latency, accuracy.
    """

    name = "bad"

    def compress(self, problem: Problem) -> Plan:
        problem.latency(problem.cost.sizes)  # here
        share = problem.solve_ratio()
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")
