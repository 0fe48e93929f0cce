from __future__ import annotations

import asyncio

from hdapbench.method import Method, Plan, Problem


class Bad(Method):
    name = "bad"

    def compress(self, problem: Problem) -> Plan:
        raise asyncio.CancelledError("no more")  # here
