from __future__ import annotations

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    name = "bad"

    def compress(self, problem: Problem) -> Plan:
        share = problem.solve_ratio()
        widths = {name: int(share * group.n_channels) for name, group in problem.groups.items()}
        return problem.plan_by_widths(widths, "l1")  # here
