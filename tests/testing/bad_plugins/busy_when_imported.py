from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from hdapbench.method import Method, Plan, Problem

print("registering")
random.seed(3)
np.seterr(all="raise")
Path("cache.txt").write_text("nothing yet")


class Bad(Method):
    name = "busy_when_imported"

    def compress(self, problem: Problem) -> Plan:
        share = problem.solve_ratio()
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), "l1")
