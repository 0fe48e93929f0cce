from __future__ import annotations

from typing import ClassVar

from hdapbench.method import Method, Plan, Problem
from hdapbench.spec import TargetKind


class Bad(Method):
    """Keep everything.

    Source: none.
    Needs: nothing.
    Never sees: latency.
    """

    name = "bad"
    targets: ClassVar[frozenset[TargetKind]] = frozenset({"latency"})

    def compress(self, problem: Problem) -> Plan:
        problem.devices.latency_share(problem.cost.sizes)  # looking at what the target limits breaks no promise
        return Plan(kept={name: tuple(range(group.n_channels)) for name, group in problem.groups.items()})  # here
