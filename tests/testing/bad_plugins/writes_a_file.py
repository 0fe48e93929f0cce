from __future__ import annotations

from pathlib import Path

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    name = "bad"

    def compress(self, problem: Problem) -> Plan:
        share = problem.solve_ratio()
        with Path("share.txt").open("w") as stream:  # here
            stream.write(str(share))
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")
