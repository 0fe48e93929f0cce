from __future__ import annotations

import contextlib
import urllib.request

from hdapbench.method import Method, Plan, Problem

with contextlib.suppress(OSError):
    urllib.request.urlopen("http://192.0.2.1/weights", timeout=0.1)  # here


class Bad(Method):
    name = "connects_when_imported"

    def compress(self, problem: Problem) -> Plan:
        share = problem.solve_ratio()
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")
