from __future__ import annotations

from typing import ClassVar

from hdapbench.errors import TargetUnreachableError
from hdapbench.method import Method, Plan, Problem
from hdapbench.spec import TargetKind


class Bad(Method):
    """Keep nothing.

    Source: none.
    Needs: nothing.
    Never sees: latency.
    """

    name = "bad"
    targets: ClassVar[frozenset[TargetKind]] = frozenset({"size"})

    def compress(self, problem: Problem) -> Plan:
        problem.devices.latency_share(problem.cost.sizes)  # here
        raise TargetUnreachableError("it is too small")
