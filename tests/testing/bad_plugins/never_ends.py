from __future__ import annotations

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    name = "never_ends"

    def compress(self, problem: Problem) -> Plan:
        while True:
            pass  # here
