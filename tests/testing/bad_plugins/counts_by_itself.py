from __future__ import annotations

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    name = "bad"

    def compress(self, problem: Problem) -> Plan:
        share = (problem.target_flops / problem.cost.dense.flops) ** 0.5
        widths = {name: max(round(share * group.n_channels), 1) for name, group in problem.groups.items()}
        return problem.plan_by_widths(widths, "l1")  # here
