from __future__ import annotations

from typing import ClassVar

from hdapbench.method import Method, Plan, Problem
from hdapbench.spec import TargetKind


class Bad(Method):
    name = "bad"
    targets: ClassVar[frozenset[TargetKind]] = frozenset({"flops", "size"})

    def compress(self, problem: Problem) -> Plan:
        share = problem.solve_ratio()
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")  # here
