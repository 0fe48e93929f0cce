from __future__ import annotations

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    """Keep the largest.

    Never sees: training images.
    """

    name = "bad"

    def compress(self, problem: Problem) -> Plan:
        next(iter(problem.training.batches(8)))  # here
        share = problem.solve_ratio()
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")
