from __future__ import annotations

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    """Keep the largest: what a method in this folder would be like without its fault.

    Never sees: latency, accuracy, training images.
    """

    name = "well_behaved"

    def compress(self, problem: Problem) -> Plan:
        share = problem.solve_ratio()
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")
